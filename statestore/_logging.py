"""Tell the log what nobody else can be told. The only module that knows structlog."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import structlog

from statestore._records import CallbackFailure
from statestore._reports import WaitReport
from statestore._text import plain, shorten


def make_reporter(
    on_error: Callable[[CallbackFailure], object] | None,
) -> Callable[[CallbackFailure], None]:
    """Give what reports a failed callback to *on_error*, or else to the log, and never raises."""

    def report(failure: CallbackFailure) -> None:
        try:
            on_error(failure) if on_error is not None else _log(failure)
        except Exception as error:  # noqa: BLE001 -- P6: there is nobody left to tell but the log
            with contextlib.suppress(Exception):
                _log(failure, on_error_raised=shorten(error))

    return report


def _log(failure: CallbackFailure, **more: str) -> None:
    default_logger().error(
        "statestore.callback_failed",
        key=failure.key,
        revision=failure.revision,
        callback=shorten(failure.callback),
        exc_info=failure.error,
        **more,
    )


def default_logger() -> Any:
    """Give the logger that is used where the user gives none."""
    return structlog.get_logger("statestore")


def bound_context() -> dict[str, Any]:
    """Give what is bound with structlog's contextvars here and now."""
    return structlog.contextvars.get_contextvars()


def report_loop_failure(loop: object, error: BaseException) -> None:
    """Log that an event loop which is not closed refused to be woken; its waits are dropped."""
    default_logger().error("statestore.loop_failed", loop=shorten(loop), exc_info=error)


def log_stuck(logger: Any, level: str, report: WaitReport) -> None:
    """Log that a wait has waited for long, with all that is known of it."""
    target = default_logger() if logger is None else logger
    seconds = {"waited": report.waited, "left": report.left, "age": report.age}
    known = {name: round(each, 3) for name, each in seconds.items() if each is not None}
    getattr(target, level)(
        "statestore.wait_stuck",
        waited_for=report.waited_for,
        waiter=report.waiter,
        kind=report.kind,
        key=report.key,
        value=plain(report.value),
        revision=report.revision,
        report=str(report),
        **known,
    )
