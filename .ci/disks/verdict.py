"""How an acceptance script ends: a line for each thing that was checked, a count, and nothing left behind."""

import contextlib
import pathlib
import signal
import sys
import tempfile
import traceback

PASSED = []
FAILED = []


class Failed(Exception):
    """What comes next makes no sense any more."""


class Ended(BaseException):
    """A signal ends the script: no `except Exception` may swallow it."""


def check(held, name):
    """Tells whether something held; the script goes on either way."""
    (PASSED if held else FAILED).append(name)
    print(f"{'ok   ' if held else 'FAIL '} {name}", flush=True)


def skip(why):
    """Ends the script: what it needs is not on this machine. Never for what drey does."""
    print(f"skipped: {why}")
    sys.exit(0)


def note(text):
    """Tells a figure that is no condition."""
    print(f"      {text}", flush=True)


def play(script, seconds_max):
    """Runs `script(cleanup, directory)`, undoes what it put on the exit stack `cleanup`, and exits with the verdict.

    The directory is a new one, and its `*.log` are shown if anything failed.
    """
    def end(number, _frame):
        raise Ended(f"ended by {signal.Signals(number).name}")

    def late(_number, _frame):
        raise Failed(f"not done after {seconds_max} s")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds_max)
    try:
        with contextlib.ExitStack() as cleanup:
            directory = pathlib.Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="drey-acceptance-")))
            try:
                script(cleanup, directory)
            except Exception as error:  # noqa: BLE001 (whatever went wrong, it is a failure)
                if not isinstance(error, Failed):
                    traceback.print_exc()
                check(False, str(error) or repr(error))
            finally:
                # A second signal must not end what the first one began: a frozen file system stays frozen otherwise.
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
                    signal.signal(number, signal.SIG_IGN)
            if FAILED:
                show_logs(directory)
    except Ended as why:
        sys.exit(str(why))
    print(f"{len(PASSED)} passed, {len(FAILED)} failed")
    sys.exit(1 if FAILED else 0)


def show_logs(directory, lines=25):
    for log in sorted(directory.glob("*.log")):
        print(f"-- the end of {log.name}")
        print("\n".join(log.read_text(errors="replace").splitlines()[-lines:]))
