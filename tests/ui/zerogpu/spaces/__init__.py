"""A stand-in for the `spaces` package (0.51) of ZeroGPU Spaces, for a machine without such a GPU.

It does as the real one does where Tunescope could tell: a generator's work runs in a process that is forked for it and
kept for the next; arguments and everything yielded cross over pickled; `duration` is called with the same arguments in
the first process; a closed generator sets an event that is looked at after each item; of an exception only the class's
name comes back, as `gr.Error`; what is wrapped must be known when the page is launched. It has no GPU, no quota and no
queue, and does not patch torch. What it saw it writes as JSON lines into the file that `SPACES_STAND_IN_LOG` names.
"""

import inspect
import json
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

_torch_was_there = "torch" in sys.modules
_fork = multiprocessing.get_context("fork")
_wrapped = []
_forked = False


def GPU(task, *, duration=None, size=None):
    """Wrap a generator function."""
    assert inspect.isgeneratorfunction(task), "the stand-in knows generators only"
    wrapper = _Wrapper(task, duration)
    _wrapped.append(wrapper)

    def gradio_handler(*args, **kwargs):
        if _forked:
            yield from task(*args, **kwargs)
        else:
            yield from wrapper.run(args, kwargs)

    return gradio_handler


def _note(**facts):
    with open(os.environ["SPACES_STAND_IN_LOG"], "a") as log:
        log.write(json.dumps({"pid": os.getpid(), **facts}) + "\n")


class _Worker:
    """A forked process that does what it is sent, one after another."""

    def __init__(self, task):
        self.orders, self.answers, self.stop = _fork.SimpleQueue(), _fork.SimpleQueue(), _fork.Event()
        self.process = _fork.Process(target=self._work, args=(task,), daemon=True)
        self.process.start()

    def _work(self, task):
        global _forked
        _forked = True
        threading.Thread(target=_end_with_parent, daemon=True).start()
        while True:
            args, kwargs = self.orders.get()
            self.stop.clear()
            with ThreadPoolExecutor() as pool:
                pool.submit(copy_context().run, self._answer, task, args, kwargs)
            self.answers.put(("end", None))

    def _answer(self, task, args, kwargs):
        items = task(*args, **kwargs)
        given = 0
        try:
            for item in items:
                if self.stop.is_set():
                    items.close()
                    break
                self.answers.put(("item", item))
                given += 1
        except Exception as error:
            self.answers.put(("error", type(error).__name__))
        _note(event="worked", items=given)


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(0)


class _Wrapper:
    def __init__(self, task, duration):
        self.task, self.duration = task, duration
        self.idle = []

    def run(self, args, kwargs):
        import gradio as gr

        _note(event="schedule", seconds=self.duration(*args, **kwargs))
        worker = self.idle.pop() if self.idle else _Worker(self.task)
        worker.orders.put((args, kwargs))
        try:
            while (answer := worker.answers.get())[0] == "item":
                yield answer[1]
        except GeneratorExit:
            worker.stop.set()
            while worker.answers.get()[0] != "end":
                pass
            self.idle.append(worker)
            raise
        if answer[0] == "error":
            worker.answers.get()
            self.idle.append(worker)
            raise gr.Error(answer[1], title="ZeroGPU worker error", print_exception=False)
        self.idle.append(worker)


def _report_at_launch():
    import gradio as gr

    launch = gr.Blocks.launch

    def launch_once(*args, **kwargs):
        _note(event="launched", wrapped=len(_wrapped), torch_was_there=_torch_was_there)
        gr.Blocks.launch = launch
        return launch(*args, **kwargs)

    gr.Blocks.launch = launch_once


_report_at_launch()
