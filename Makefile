# Every target first makes .venv from requirements.txt (toolkit/bootstrap.py); when that is done already, it takes no time.
# On Windows, or without make, the same commands stand in the README.

PYTHON ?= python3
ifeq ($(OS),Windows_NT)
VENV := .venv/Scripts/python.exe
else
VENV := .venv/bin/python
endif
# Ray has an environment of its own, on top of the other one.
RAY := .venv-ray/bin/python
# So has Sphinx, which makes the site.
SITE := $(VENV:.venv/%=.venv-site/%)

# What a learner gave on the command line, as flags; nothing for what was left out.
RUN_FLAGS = $(if $(MODEL),--model "$$MODEL") $(if $(PROMPTS),--prompts "$$PROMPTS") $(if $(TOKENS),--tokens "$$TOKENS")

.PHONY: help setup start lab check watch hint progress reset update run serve run-ray serve-ray bench test test-ray test-long testgpu soak record report wheelhouse collect release figures exercises lessons site lint
.DEFAULT_GOAL := help

##@ To learn, and to run the engines:
help: ## this list
	@awk -F ':.*## ' '/^##@ / { print (n++ ? "\n" : "") substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' \
	$(firstword $(MAKEFILE_LIST))
	@echo 'Where python3 is older than 3.11, name another one: make run PYTHON=python3.12'

setup: ## only the set-up that every other target does first; without a network: make setup FROM=/media/stick/wheels
	@$(PYTHON) toolkit/$(if $(FROM),bootstrap_offline.py "$$FROM",bootstrap.py)

start: setup ## make my/, your copy of exercises and lessons; in one that is there, bring back missing files
	@$(VENV) -m toolkit.commands.learner.start

lab: setup ## JupyterLab on your lesson of chapter 0
	@$(VENV) -m toolkit.commands.learner.lab

# Unsolved exercises (exit code 1) are no error of make's.
check: setup ## test your own code: make check CH=2, or one exercise: make check EX=2.1
	@$(VENV) -m toolkit.commands.exercises.check $(or $(EX),$(CH)) || [ $$? -eq 1 ]

watch: setup ## the same at every save: make watch CH=2, or EX=2.1
	@$(VENV) -m toolkit.commands.learner.watch $(or $(EX),$(CH))

hint: setup ## the next hint for an exercise: make hint EX=2.1; for a bug of the museum a guess: EX=8.6 GUESS="..."
	@$(VENV) -m toolkit.commands.exercises.hint $(EX) $(if $(GUESS),--guess "$$GUESS")

progress: setup ## which exercises are solved
	@$(VENV) -m toolkit.commands.exercises.progress

reset: setup ## put one exercise back as it was: make reset EX=2.1
	@$(VENV) -m toolkit.commands.learner.reset $(EX)

# Something that the learner has to decide (exit code 1) is no error of make's.
update: setup ## after git pull: bring what is new into my/, and keep your edits
	@$(VENV) -m toolkit.commands.learner.update || [ $$? -eq 1 ]

# The name only from the command line: some systems have the machine's name in a variable NAME.
report: setup ## the one file to hand in: make report [NAME="Ada"] [CODE=no]
	@$(VENV) -m toolkit.commands.classroom.report $(if $(filter command,$(origin NAME)),--name "$$NAME") $(if $(filter no,$(CODE)),--no-code)

run: setup ## all engines on real prompts: make run [MODEL=tiny] [PROMPTS=file.jsonl] [TOKENS=32]
	@$(VENV) -m toolkit.commands.run $(RUN_FLAGS)

# Another HOST than this machine's own needs a key in the environment variable SERVE_API_KEY.
serve: setup ## the OpenAI API over HTTP: make serve [MODEL=tiny] [PORT=8000] [HOST=127.0.0.1]
	@$(VENV) -m toolkit.commands.serve $(if $(MODEL),--model "$$MODEL") $(if $(PORT),--port "$$PORT") $(if $(HOST),--host "$$HOST")

# Where it ends before the end (Ctrl-C, a full disk), the same command goes on with the answers that are there.
run-ray: setup ## a file of prompts answered by several engines: make run-ray [MODEL=] [PROMPTS=] [TOKENS=] [ANSWERS=] [REPLICAS=2]
	@$(VENV) -m toolkit.bootstrap_ray
	@$(RAY) -m toolkit.commands.run_ray $(RUN_FLAGS) $(if $(ANSWERS),--answers "$$ANSWERS") $(if $(REPLICAS),--replicas "$$REPLICAS")

serve-ray: setup ## the OpenAI API on several engines: make serve-ray [MODEL=] [PORT=8000] [REPLICAS=2] [AFFINE=1]
	@$(VENV) -m toolkit.bootstrap_ray
	@$(RAY) -m toolkit.commands.serve_ray $(if $(MODEL),--model "$$MODEL") $(if $(PORT),--port "$$PORT") $(if $(REPLICAS),--replicas "$$REPLICAS") $(if $(AFFINE),--affine)

bench: setup ## on a GPU (20 minutes) ours against the transformers library: make bench [BENCH='--model 1b']; elsewhere a smoke test
	@$(VENV) -m toolkit.commands.bench $(BENCH)

# On several cores side by side; each process takes about 1 GB.
test: setup ## the tests against the reference solutions, on the CPU and the simulated GPU
	@COURSE_CODE=solutions CUDA_VISIBLE_DEVICES= $(VENV) -m pytest -m 'not long and not slow' -n auto --maxprocesses 4 --dist worksteal

##@ To teach a class:
wheelhouse: setup ## for a room without a network: make wheelhouse TO=/media/stick [FOR=linux,macos,windows] [PYTHONS=3.11,3.12]
	@$(VENV) -m toolkit.commands.wheelhouse "$$TO" $(if $(FOR),--for "$$FOR") $(if $(PYTHONS),--pythons "$$PYTHONS")

# The reports hold strangers' Python, which runs in a container, or with TRUST=1 as your own.
collect: setup ## a table of a class's reports: make collect FOLDER=reports/ [TRUST=1] [JOBS=2]
	@$(VENV) -m toolkit.commands.classroom.collect $(if $(FOLDER),"$$FOLDER") $(if $(TRUST),--trust) $(if $(JOBS),--jobs "$$JOBS")

release: setup ## a repository without later solutions: make release UPTO=5 TO=../class
	@$(VENV) -m toolkit.commands.classroom.release $(if $(UPTO),"$$UPTO") $(if $(TO),--to "$$TO")

##@ To work on the course itself:
# Exit code 3 of the set-up: there is no Ray for this system, and it has said so.
test-ray: setup ## the tests that need Ray, and those with the official client of the API
	@$(VENV) -m toolkit.bootstrap_ray --skip; case $$? in \
	0) COURSE_CODE=solutions CUDA_VISIBLE_DEVICES= $(RAY) -m pytest -W ignore -n 2 --dist loadfile \
		tests/on_ray tests/ch10_serving/test_openai_client.py ;; \
	3) ;; \
	*) exit 1 ;; esac

test-long: setup ## the slow tests and long sweeps that make test leaves out
	@COURSE_CODE=solutions CUDA_VISIBLE_DEVICES= $(VENV) -m pytest -m 'long or slow' -n auto --maxprocesses 4 --dist worksteal

testgpu: setup ## on a machine with an NVIDIA GPU: the tests that need it, and those that run on both
	@COURSE_CODE=solutions $(VENV) -m pytest -m '(gpu or both) and not long'

soak: setup ## a long random run of the full engine, two minutes: make soak [STEPS=20000] [SEED=0]
	@$(VENV) -m toolkit.commands.soak $(if $(STEPS),--steps $(STEPS)) $(if $(SEED),--seed $(SEED))

# What is measured with Ray runs in Ray's environment.
RECORD = $(if $(filter replicas,$(CH)),$(RAY),$(VENV))
record: setup ## measure what a chapter's figures show, on this machine: make record CH=4 [DEVICE=cpu]
	@$(if $(filter replicas,$(CH)),$(VENV) -m toolkit.bootstrap_ray)
	@$(RECORD) -m figures.record $(CH) $(if $(DEVICE),--device $(DEVICE))

figures: setup ## draw the figures again from their recordings
	@$(VENV) -m figures.draw

exercises: setup ## write chapters/, the engine in one file, and what docs/ says of the code again from solutions/
	@$(VENV) -m toolkit.commands.exercises.generate
	@$(VENV) -m toolkit.commands.one_file
	@$(VENV) -m toolkit.commands.code_links
	@$(VENV) -m toolkit.commands.exercises.wrong_answers

lessons: setup ## build and run the lesson notebooks from their lesson.py
	@$(VENV) -m toolkit.commands.exercises.lessons

# The check comes last: a site with a broken link is an error here.
site: setup ## the course's site, from the README, the lessons and docs/, into build/site; checks it
	@$(VENV) -m toolkit.bootstrap_site
	@CUDA_VISIBLE_DEVICES= $(SITE) -m toolkit.commands.site.build

lint: setup ## ruff and mypy
	@$(VENV) -m ruff check
	@$(VENV) -m ruff format --check
	@$(VENV) -m mypy toolkit solutions figures
