"""What Triton kernels that follow each other within microseconds have in common: an early start, and a common end.

*Early start* ("programmatic dependent launch", NVIDIA GPUs of compute capability 9.0). Normally a kernel's programs
start when all programs of the kernel before have ended, so at every change the GPU runs empty and full again. One that
is launched with `launch_pdl=True` starts as soon as there is room beside the last programs of the one before, prepares
what does not depend on those, and waits. Two rules keep that safe: no program writes before the wait, and none lets the
next kernel in before its own wait is over. So while a kernel runs, all but the one right before it are complete.

*Common end*. Where several programs work on parts of one sum, the last of them adds the parts up. That takes no kernel
of its own, and since the parts are added in a fixed order, whichever is last, the result is the same every time.
"""
# ruff: noqa: ANN001, ANN201 (a kernel's arguments are pointers and numbers: it is compiled, and has no Python types)

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def wait_for_the_kernel_before(EARLY: tl.constexpr):
    """What it wrote can be read from here on; and the next kernel may start."""
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()


@triton.jit
def prefetch(pointers):
    """Have the 128 bytes around each pointer brought into the GPU's cache, and don't wait for them."""
    asm: tl.constexpr = "prefetch.global.L2 [$1]; mov.u32 $0, 0;"
    tl.inline_asm_elementwise(asm, "=r,l", [pointers.to(tl.int64)], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def is_last(arrived, count):
    """Whether this is the last of `count` programs to get here. Then it may read what the others have stored before.

    Args:
        arrived: pointer to the int32 that they share. It has to be 0 at first, and it is 0 again afterwards.
    """
    tl.debug_barrier()  # all threads of this program have stored their part
    before = tl.atomic_add(arrived, 1, sem="acq_rel")
    if before == count - 1:
        tl.store(arrived, 0)
    return before == count - 1
