"""Chapter 10, serving: chapter 9's engine behind the OpenAI API, over HTTP; then several engines.

Read in this order: not_here, wire, api_errors, prompts, choices, admission, mailbox, call, leaving, chunk_text,
answers, streaming, metrics, service, guard, app, settings, connections, serve. Several engines as one server, on Ray:
local_ray, asgi_call, ingress, affinity, affine_router, watchdog, replicas. Offline: offline_job, answers_file,
offline_engine, offline. One model on several GPUs: tensor_parallel.
"""

from ch10_serving.admission import Admission
from ch10_serving.app import create_app
from ch10_serving.call import Call
from ch10_serving.leaving import unless_gone
from ch10_serving.mailbox import Mailbox
from ch10_serving.serve import DrainingServer, check_host, listen, serve, server_for
from ch10_serving.service import Service
from ch10_serving.settings import Limits

__all__ = [
    "Admission",
    "Call",
    "DrainingServer",
    "Limits",
    "Mailbox",
    "Service",
    "check_host",
    "create_app",
    "listen",
    "serve",
    "server_for",
    "unless_gone",
]
