"""
Plant bugs in the package, one at a time, and see that the tests find each of them.

    python tests/planted_bugs.py [--jobs N] [NAME ...]

A test that stays green with the code broken shows nothing. Each bug below breaks one promise in one
place of a copy of the package; the tests named beside it must then fail, or get stuck. What is
planted is what a hand could have written, and most of it has stood in some store.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent

PATIENCE: Final = 300
"""Seconds after which a run of tests counts as stuck."""


SCHEDULES: Final = "races/test_schedules.py"
CRASHES: Final = "races/test_crash_points.py"


class Bug(NamedTuple):
    """One line or a few of a module, what they become, and the tests that must notice."""

    name: str
    module: str
    right: str
    wrong: str
    tests: tuple[str, ...]


BUGS: Final = (
    # One order, and everybody in it: promises P1 and P4.
    Bug(
        "every commit wins",
        "_core",
        "        if box[0] is not entry:\n            return False\n",
        "",
        ("test_core.py",),
    ),
    Bug(
        "the short way of a set believes that it won",
        "_settable",
        "                    if box[0] is entry:\n                        cell[NEXT] = ",
        "                    if True:\n                        cell[NEXT] = ",
        (f"{SCHEDULES}::test_the_short_way_of_a_set_loses_nothing",),
    ),
    Bug(
        "a set that is followed believes that it won",
        "_settable",
        "                    if box[0] is entry:\n                        core.apply(",
        "                    if True:\n                        core.apply(",
        (f"{SCHEDULES}::test_a_set_that_is_followed_loses_nothing",),
    ),
    Bug(
        "a set that is followed overtakes who has the right of way",
        "_settable",
        "                elif not core.turns:\n",
        "                else:\n",
        ("test_core.py", "test_watcher.py"),
    ),
    Bug(
        "the short way ignores who follows all keys",
        "_settable",
        "                    core.attention\n                    or (",
        "                    (",
        ("test_commits.py",),
    ),
    Bug(
        "only the first of several entries is applied",
        "_core",
        "        while (box := head[BOX]) and box[0] is not END:\n            entry = box[0]",
        "        if (box := head[BOX]) and box[0] is not END:\n            entry = box[0]",
        ("test_core.py",),
    ),
    Bug(
        "a fence is not appended",
        "_core",
        "if self.closed or self._append(head, (head[0], [], handle)):",
        "if handle is None or self._append(head, (head[0], [], handle)):",
        ("test_core.py",),
    ),
    Bug(
        "a late repetition sets a value back",
        "_settable",
        "        while (after := cell[NEXT]) is not None:\n"
        "            cell = after\n"
        "        value: Any = cell[VALUE]\n",
        "        value: Any = cell[VALUE]\n",
        ("test_core.py",),
    ),
    Bug(
        "a late repetition sets back where a wait begins",
        "_core",
        "            cell = after\n        return cell\n\n    def _is_ended(",
        "            break\n        return cell\n\n    def _is_ended(",
        ("test_core.py", "test_waits.py"),
    ),
    Bug(
        "an update does not look whether its value was replaced",
        "_settable",
        "                while self._tail() is cell:\n",
        "                while True:\n",
        ("test_watcher.py", "test_core.py"),
    ),
    # No gap: promises P2 and P3.
    Bug(
        "a wait looks, then registers behind what came meanwhile",
        "_waits",
        "        cell, found = look(slot, cell, test, first, first[REVISION])\n",
        "        cell = slot._latest()\n",
        ("test_waits.py", "test_hostile.py"),
    ),
    Bug(
        "arming a port does not look for what was linked before",
        "_mailbox",
        "            if self._slot._has_after(cell) or self._slot._core.closed:\n"
        "                self.notify()\n",
        "",
        ("test_mailbox.py",),
    ),
    Bug(
        "a blocked thread parks without looking once more",
        "_mailbox",
        "if not (self.slot._has_after(cell) or core.closed):",
        "if True:",
        (f"{SCHEDULES}::test_no_wake_up_of_a_blocked_thread_is_lost",),
    ),
    Bug(
        "a port whose waits go on is not armed anew",
        "_mailbox",
        "            self._ports.pop(self._token, None)\n"
        "            self._token = object()\n"
        "            self._ports[self._token] = self\n",
        "            pass\n",
        ("test_mailbox.py",),
    ),
    Bug(
        "a port is not looked at once more when it is armed",
        "_mailbox",
        "            if self.seen[NEXT] is not None or self._slot._core.closed:\n",
        "            if self._slot._core.closed:\n",
        ("test_mailbox.py",),
    ),
    Bug(
        "a port that is armed behind the end does not see it",
        "_mailbox",
        "            if self.seen[NEXT] is not None or self._slot._core.closed:\n",
        "            if self.seen[NEXT] is not None:\n",
        ("test_mailbox.py",),
    ),
    Bug(
        "a wait is told of what it has seen itself",
        "_mailbox",
        "            if some_began_later and waiter.since >= revision:\n                continue\n",
        "",
        ("test_mailbox.py",),
    ),
    # Callbacks: promises P6 and P7.
    Bug(
        "a repeated entry calls its callbacks again",
        "_callbacks",
        "        if entry[0] > told:\n",
        "        if True:\n",
        ("test_core.py", "test_callbacks.py"),
    ),
    Bug(
        "callbacks nest",
        "_callbacks",
        "length_hint(self._current[1])) and not self._right:\n"
        "            token = object()\n"
        "            right = self._right\n",
        "length_hint(self._current[1])):\n"
        "            token = object()\n"
        "            right = self._right = []\n",
        ("test_callbacks.py",),
    ),
    Bug(
        "a callback hears of what came before it",
        "_callbacks",
        "if handle._closed or since is None or since >= revision:",
        "if handle._closed:",
        ("test_core.py",),
    ),
    Bug(
        "a closed callback is called",
        "_callbacks",
        "if handle._closed or since is None or since >= revision:",
        "if since is None or since >= revision:",
        ("test_callbacks.py",),
    ),
    Bug(
        "a callback's error reaches the setter",
        "_callbacks",
        "                except BaseException as error:"
        "  # noqa: BLE001 -- P6: never thrown at the setter\n"
        "                    self.report(handle, revision, error)\n",
        "                except BaseException:\n                    raise\n",
        ("test_callbacks.py",),
    ),
    Bug(
        "callbacks run in the context of whoever runs them",
        "_callbacks",
        "context.run(handle._function, old, new)",
        "handle._function(old, new)",
        ("test_callbacks.py",),
    ),
    # Waits leave no trace: promise P8.
    Bug(
        "a wait forgets its timer",
        "_mailbox",
        "            waiter.timer.cancel()\n",
        "            pass\n",
        ("test_waits.py",),
    ),
    Bug(
        "a wait that ended stays registered",
        "_waits",
        "            raise\n        found.port.discard(found)\n",
        "            raise\n",
        ("test_waits.py",),
    ),
    Bug(
        "a wait that was cancelled stays registered",
        "_value_watcher",
        "                        found.port.abandon(found)\n",
        "",
        ("test_waits.py",),
    ),
    Bug(
        "a cancellation that is kept holds what comes later",
        "_mailbox",
        "        self.discard(waiter)\n        del waiter.port\n",
        "        self.discard(waiter)\n",
        ("test_waits.py",),
    ),
    Bug(
        "what came before the deadline is lost to it",
        "_waits",
        "        slot._latest()\n        cell, found = look(slot, cell, test, trail, since)\n",
        "        found = False\n",
        ("test_mailbox.py", "test_waits.py"),
    ),
    Bug(
        "waits end out of their order",
        "_mailbox",
        "            found.sort(key=_order_of)\n",
        "            pass\n",
        ("test_mailbox.py",),
    ),
    Bug(
        "a loop is woken from another thread as from its own",
        "_mailbox",
        "        return asyncio.get_running_loop() is loop and "
        "asyncio.current_task(loop) is not None\n",
        "        return True\n",
        ("test_mailbox.py",),
    ),
    Bug(
        "a wait takes a value that was replaced for the newest",
        "_value_watcher",
        " and after is None and not self._core.head[BOX]:",
        " and after is None:",
        ("test_core.py",),
    ),
    Bug(
        "a wait takes an old cell for the newest",
        "_value_watcher",
        " and after is None and not self._core.head[BOX]:",
        " and not self._core.head[BOX]:",
        ("test_core.py",),
    ),
    Bug(
        "those for several values go on value by value",
        "_mailbox",
        "        return sorted(found, key=_order_of)\n",
        "        return found\n",
        ("test_waits.py",),
    ),
    Bug(
        "a timeout that is kept holds what comes later",
        "_waits",
        "        del waiter.port, cell, trail\n",
        "        del cell, trail\n",
        ("test_waits.py",),
    ),
    Bug(
        "two tasks read what was read quickly before",
        "_streams",
        "            self._in_use, self._quick = True, None\n",
        "            pass\n",
        ("test_subscription.py",),
    ),
    Bug(
        "a function that is marked as asynchronous passes",
        "_matching",
        "        and not function.__dict__\n",
        "",
        ("test_waits.py",),
    ),
    Bug(
        "calls are left when another round ends just then",
        "_core",
        "        if inline:\n            try:\n",
        "        if inline in self.attention:\n            try:\n",
        ("test_core.py",),
    ),
    # Who goes on in the turn in which he is found.
    Bug(
        "those who are left after an interrupt are not seen to",
        "_mailbox",
        "            if (self.dirty or self.due) and not self.is_scheduled:\n",
        "            if self.dirty and not self.is_scheduled:\n",
        ("test_stepping.py",),
    ),
    Bug(
        "one that an interrupt kept from going on is left alone",
        "_stepping",
        "                _leave_to_the_loop(future, callback, context)\n",
        "                pass\n",
        (f"{CRASHES}::test_whoever_is_to_go_on_does_so_after_an_interrupt",),
    ),
    Bug(
        "one that goes on is called by the loop as well",
        "_stepping",
        "            future.remove_done_callback(callback)\n",
        "",
        ("test_stepping.py",),
    ),
    Bug(
        "a cancellation that was interrupted is requested twice",
        "_during",
        "            if not self._has_cancelled:\n",
        "            if True:\n",
        ("test_during.py::test_an_interrupt_of_the_cancellation_cancels_but_once",),
    ),
    Bug(
        "an error that a task ends with holds the task",
        "_stepping",
        "            del called, callback, context\n",
        "            pass\n",
        ("test_stepping.py",),
    ),
    # Bounded memory, honest loss: promise P9.
    Bug(
        "a loss is counted twice",
        "_queues",
        "            elif lag.last_revision < lost:\n",
        "            else:\n",
        ("test_queues.py",),
    ),
    Bug(
        "a bounded queue keeps one too many",
        "_queues",
        "        if len(self._items) > self._maxlen:\n",
        "        if len(self._items) > self._maxlen + 1:\n",
        ("test_queues.py",),
    ),
    Bug(
        "a joined record does not tell how many it stands for",
        "_queues",
        "Item(last.old, new, item.revision, last.missed + 1)",
        "Item(last.old, new, item.revision, last.missed)",
        ("test_queues.py",),
    ),
    Bug(
        "a cancelled read has taken its record",
        "_streams",
        "                    await self._sleep(None)\n"
        "                    item = self._take()\n"
        "            return",
        "                    await self._sleep(None)\n"
        "                    item = self._take()\n                    await asyncio.sleep(0)\n"
        "            return",
        ("test_subscription.py", "test_tick_sweep.py"),
    ),
    Bug(
        "the end is looked at after the queue",
        "_streams",
        "                ended = self._is_ended()\n                item = self._take()\n"
        "                if item is not None:\n",
        "                item = self._take()\n                ended = self._is_ended()\n"
        "                if item is not None:\n",
        (f"{SCHEDULES}::test_closing_wakes_a_blocked_reader",),
    ),
    # Transactions and snapshots: promise P4.
    Bug(
        "a transaction commits over what it has read",
        "_transaction",
        "            head = core.settle_open()\n            self._check()\n",
        "            head = core.settle_open()\n",
        ("test_transaction.py",),
    ),
    Bug(
        "a transaction reads without looking back",
        "_transaction",
        "            self._cells[slot] = slot._tail()\n            self._check()\n",
        "            self._cells[slot] = slot._tail()\n",
        ("test_transaction.py",),
    ),
    Bug(
        "a snapshot keeps what came while it was taken",
        "_commits",
        "        values |= _before(_later(first, revision))\n",
        "",
        ("test_commits.py",),
    ),
    # Derived watchers: promise P4, and all others once more.
    Bug(
        "a node is computed before its sources",
        "_graph",
        "            source.plan = sorted(found, key=_depth)\n",
        "            source.plan = list(found)\n",
        ("test_combine.py::test_a_count_is_told_of_what_changes_together",),
    ),
    Bug(
        "what keys have in common is computed before its sources",
        "_graph",
        "        return sorted(dict.fromkeys(chain(*plans)), key=_depth)\n",
        "        return list(dict.fromkeys(chain(*plans)))\n",
        ("test_combine.py::test_diamonds_over_several_keys_have_no_glitch",),
    ),
    Bug(
        "a network looks at more than is settled",
        "_network",
        "                if cell[REVISION] > revision:\n"
        "                    self.dirty[source] = None\n"
        "                    break\n",
        "",
        ("test_network.py::test_what_is_committed_while_looking_is_left_for_later",),
    ),
    Bug(
        "a network of one key looks at more than is settled",
        "_network",
        "            if cell[REVISION] > revision or not left:\n",
        "            if not left:\n",
        ("test_network.py::test_what_is_committed_while_looking_is_left_for_later",),
    ),
    Bug(
        "keys are taken one after the other, not commit by commit",
        "_network",
        "self._follow(sorted(self._steps(inputs, revision), key=_revision))",
        "self._follow(self._steps(inputs, revision))",
        ("test_combine.py::test_each_commit_of_a_source_makes_a_transition",),
    ),
    Bug(
        "a loop does not come back to what it has left for later",
        "_mailbox",
        "        if self.seen[NEXT] is not None:\n            self.notify()\n",
        "        if self.seen[NEXT] is not None:\n            pass\n",
        ("test_backlogs.py",),
    ),
    Bug(
        "all that is derived of one key is computed at once",
        "_network",
        "            if cell[REVISION] > revision or not left:\n",
        "            if cell[REVISION] > revision:\n",
        ("test_backlogs.py",),
    ),
    Bug(
        "all that is derived is computed at once",
        "_network",
        "            revision = min(revision, cell[REVISION])\n",
        "            pass\n",
        ("test_backlogs.py",),
    ),
    Bug(
        "a wait whose time is up looks at what came before it began",
        "_waits",
        "cell, trail = walk_to(waiter.port.seen, since), waiter.port.trail()",
        "cell, trail = waiter.port.seen, waiter.port.trail()",
        ("test_backlogs.py",),
    ),
    Bug(
        "an input is not armed again",
        "_network",
        "                source.arm()\n",
        "",
        ("test_family.py::TestTallies::test_see_members_that_change_together_as_one",),
    ),
    Bug(
        "who joins finds the others at another revision",
        "_network",
        "        self._walk(revision)\n        for source in inputs:\n",
        "        for source in inputs:\n",
        ("test_inline.py::test_what_is_computed_ahead_is_told_in_its_turn",),
    ),
    Bug(
        "derived values of two types are the same",
        "_network",
        "                        type(value) is type(before)\n"
        "                        and node.is_compared\n",
        "                        node.is_compared\n",
        ("test_derived.py::test_equal_is_what_equals_and_is_of_one_type",),
    ),
    # What holds for a while, and work that is bound to a state.
    Bug(
        "a break that was over when it was seen does not count",
        "_holding",
        "        if not is_accepted or self.test is ANYTHING:\n            self._since = None\n",
        "        if self.test is ANYTHING:\n            self._since = None\n",
        ("test_held_for.py",),
    ),
    Bug(
        "what follows a change does not count",
        "_holding",
        "        if not is_accepted or self.test is ANYTHING:\n",
        "        if not is_accepted:\n",
        ("test_held_for.py",),
    ),
    Bug(
        "a hold is full without looking at what was committed",
        "_holding",
        "        slot._latest()\n        cell = hold.follow(slot, cell, trail)\n",
        "        if hold.next_look(deadline) > now:\n"
        "            cell = hold.follow(slot, cell, trail)\n",
        ("test_held_for.py",),
    ),
    Bug(
        "what is derived is not computed when a hold is full",
        "_holding",
        "        slot._latest()\n        cell = hold.follow(slot, cell, trail)\n",
        "        cell = hold.follow(slot, cell, trail)\n",
        ("test_held_for.py",),
    ),
    Bug(
        "a hold may be full behind the deadline",
        "_holding",
        "        slot._latest()\n        cell = hold.follow(slot, cell, trail)\n"
        "        if hold.is_full(min(now, deadline)):\n",
        "        slot._latest()\n        cell = hold.follow(slot, cell, trail)\n"
        "        if hold.is_full(now):\n",
        ("test_held_for.py",),
    ),
    Bug(
        "the cancellation of who wants the task to end is held back",
        "_during",
        "        if not self._has_cancelled or self._task.uncancel() > self._requests:\n",
        "        if not self._has_cancelled or self._task.uncancel() < 0:\n",
        ("test_during.py",),
    ),
    Bug(
        "a request to cancel is not taken back",
        "_during",
        "        if not self._has_cancelled or self._task.uncancel() > self._requests:\n",
        "        if not self._has_cancelled or self._task.cancelling() - 1 > self._requests:\n",
        ("test_during.py",),
    ),
    Bug(
        "an error of the block is held back",
        "_during",
        "        return kind is not None and issubclass(kind, asyncio.CancelledError)\n",
        "        return True\n",
        ("test_during.py",),
    ),
    Bug(
        "a state that was left and entered again goes on",
        "_during",
        "            cell, is_found = advance(self.slot, cell, self._end)\n",
        "            cell = self.slot._latest()\n            is_found = self._end(cell[VALUE])\n",
        ("test_during.py",),
    ),
    Bug(
        "what ended the state is not looked for when the block is over",
        "_during",
        "                waiter.cell = cell if is_found else None\n",
        "                pass\n",
        ("test_during.py",),
    ),
    Bug(
        "a block that was left is cancelled",
        "_during",
        "        if not self._is_over:\n            self.error =",
        "        if True:\n            self.error =",
        ("test_during.py",),
    ),
    Bug(
        "a short visit is skipped",
        "_supervision",
        "            if work is not None:\n                doing",
        "            if work is not None and not visits.pending:\n                doing",
        ("test_supervision.py",),
    ),
    Bug(
        "what is to run to its end is cancelled",
        "_supervision",
        "    if isinstance(work, RunToEnd):\n        await work(visit)\n        return\n",
        "",
        ("test_supervision.py",),
    ),
    Bug(
        "a supervision that is cancelled does not wait for its work",
        "_supervision",
        "                cancelled = error\n                task.cancel()\n",
        "                raise\n",
        ("test_supervision.py",),
    ),
    Bug(
        "the cancellation of a supervision is swallowed",
        "_supervision",
        "        if cancelled is not None:\n            raise cancelled\n",
        "",
        ("test_supervision.py",),
    ),
    Bug(
        "an equal value begins a visit",
        "_supervision",
        "            if is_within is None or not is_within(visit.new):\n".replace(
            "            ", "        ", 1
        ),
        "        if True:\n",
        ("test_supervision.py",),
    ),
    # One winner: promise P15.
    Bug(
        "a claim is decided on a value that was replaced",
        "_value_watcher",
        "            made = self._change(decide, reason)\n",
        "            made = test(self.value) and self._change(lambda old: (change(old),))\n",
        ("test_claims.py",),
    ),
    Bug(
        "a store's claim commits though its condition holds no more",
        "_store",
        "._holding(slot, cell)",
        "",
        ("test_claims.py",),
    ),
    Bug(
        "a condition is held without computing what it is",
        "_transaction",
        "        return self._slot._latest()\n",
        "        return self._slot._tail()\n",
        ("test_claims.py",),
    ),
    Bug(
        "who comes later overtakes",
        "_claims",
        "        if seconds == 0 or claim.line not in mailbox.lines:\n",
        "        if True:\n",
        ("test_claims.py", "test_claim_sweep.py"),
    ),
    Bug(
        "conditions are asked in the order of their first claim",
        "_claims",
        "sorted((g for g in self._due if g.claimants), key=_order_of)",
        "list(self._due)",
        ("test_claims.py",),
    ),
    Bug(
        "one that cannot be met holds up the line",
        "_claims",
        "                    self._due.pop(group, None)\n                    break\n",
        "                    self._due.pop(group, None)\n                    return\n",
        ("test_claims.py",),
    ),
    Bug(
        "a condition is asked for each who waits",
        "_claims",
        "        self._enter(claimant, place, claimant.claim.same)\n",
        "        self._enter(claimant, place, claimant)\n",
        ("test_claims.py",),
    ),
    Bug(
        "conditions that captured other things are the same",
        "_claims",
        "        tuple(map(id, function.__closure__ or ())),\n",
        "",
        ("test_claims.py",),
    ),
    Bug(
        "a claim that has ended does not let the next one try",
        "_claims",
        "            self._mailbox.notify(self)\n            self._chosen = None\n",
        "            self._chosen = None\n",
        ("test_claims.py", "test_claim_sweep.py"),
    ),
    Bug(
        "a claim that was cancelled keeps its turn",
        "_claims",
        "            del self._mailbox.lines[self._key]\n        self._release(claimant)\n",
        "            del self._mailbox.lines[self._key]\n",
        ("test_claims.py", "test_claim_sweep.py"),
    ),
    Bug(
        "a claim joins its line without looking once more",
        "_claims",
        "(is_first and seen != slot._latest()[REVISION])",
        "False",
        ("test_claims.py", "test_claim_sweep.py"),
    ),
    Bug(
        "a claim joins a line that has been told of the end",
        "_claims",
        "[REVISION]) or self._core.closed:",
        "[REVISION]):",
        ("test_claims.py",),
    ),
    Bug(
        "a line looks before it is armed",
        "_claims",
        "                    place.arm()\n                    self._due",
        "                    self._due",
        ("test_claims.py",),
    ),
    Bug(
        "a claim whose time is up does not look again",
        "_claims",
        "            self._due[self._enter(claimant, place, claimant)] = None\n"
        "            self.drain()\n",
        "            claimant.wake()\n",
        ("test_claims.py", "test_claim_sweep.py"),
    ),
    Bug(
        "a claim whose time is up overtakes",
        "_claims",
        "            if line.is_chosen(claimant):\n",
        "            if line.is_chosen(claimant) or claimant.has_expired:\n",
        ("test_claims.py", "test_claim_sweep.py"),
    ),
    Bug(
        "a cancellation comes between a claim and its result",
        "_claims",
        "                result = claim.attempt(slot)\n                if result is not MISSED:\n"
        "                    return result\n            if claimant",
        "                result = claim.attempt(slot)\n                await asyncio.sleep(0)\n"
        "                if result is not MISSED:\n"
        "                    return result\n            if claimant",
        ("test_claims.py", "test_claim_sweep.py"),
    ),
    Bug(
        "a condition that raises breaks its line",
        "_claims",
        "            claimant.error = error\n            return None\n",
        "            raise\n",
        ("test_claims.py",),
    ),
    Bug(
        "a thread that has ended does not let the next one look",
        "_claims",
        "            other.open()\n",
        "            pass\n",
        ("test_claims.py",),
    ),
    Bug(
        "all threads listen",
        "_claims",
        "        return not ahead or any(other.thread == gate.thread for other in ahead)\n",
        "        return True\n",
        ("test_claims.py",),
    ),
    Bug(
        "a thread waits for a frame of its own",
        "_claims",
        "        return not ahead or any(other.thread == gate.thread for other in ahead)\n",
        "        return not ahead\n",
        ("test_claims.py",),
    ),
    # Values: promises P10 and P11.
    Bug(
        "equal values of two types are the same",
        "_values",
        "(type(old) is type(new) and (new == old) is True)",
        "((new == old) is True)",
        ("test_values.py",),
    ),
    Bug(
        "the short way of a set takes equal values of two types for the same",
        "_settable",
        "(type(old) is kind and (new == old) is True)",
        "((new == old) is True)",
        ("test_watcher.py",),
    ),
    Bug(
        "a cycle is walked for ever, or passed",
        "_values",
        "        if id(part) in self.active:\n",
        "        if False:\n",
        ("test_values.py",),
    ),
    Bug(
        "a part seen before hides how deep it is",
        "_values",
        "if len(self.trail) + max(height, 1) > MAX_DEPTH:",
        "if len(self.trail) + 1 > MAX_DEPTH:",
        ("test_values.py",),
    ),
    # Anywhere, and to the end: promises P12 and P13.
    Bug(
        "a forked child keeps its parent's consumers",
        "_fork",
        "        core.forget_consumers()\n",
        "        pass\n",
        ("test_fork.py",),
    ),
    Bug(
        "closing wakes nobody",
        "_core",
        "            for listeners in self.listeners.copy().values():\n"
        "                listeners.notify()\n"
        "            for port",
        "            for port",
        ("test_core.py", "test_waits.py"),
    ),
    Bug(
        "a set after the end is made",
        "_core",
        "        if self.closed:\n            msg =",
        "        if False:\n            msg =",
        ("test_store.py",),
    ),
    # What others test with.
    Bug(
        "what is left over is passed over",
        "testing/_recording",
        "    pairs = list(zip_longest(expected, told, fillvalue=_MISSING))\n",
        "    pairs = list(zip(expected, told))\n",
        ("test_testing.py::test_nothing_is_left_over",),
    ),
    Bug(
        "settling looks at the store alone",
        "testing/_settling",
        "    return not _running(loop)\n",
        "    return True\n",
        ("test_testing.py",),
    ),
    Bug(
        "time on the deterministic loop does not stop at a timer",
        "testing/_loop",
        "            self._now = max(self._now, timers[0].when())\n",
        "            self._now = end\n",
        ("test_loop.py",),
    ),
    Bug(
        "stores are closed before anybody looks what is left",
        "testing/_makers",
        "                for thing in made:\n                    assert_no_trace(thing)\n",
        "                pass\n",
        ("test_testing.py", "test_pytest_plugin.py"),
    ),
    # Legal moves: promise P16.
    Bug(
        "a move is judged against a value that is not replaced",
        "_settable",
        "                while self._tail() is cell:\n                    if self._lifecycle",
        "                if True:\n                    if self._lifecycle",
        ("test_lifecycle.py::TestMoves::test_judged_against_the_value_that_is_replaced",),
    ),
    Bug(
        "a transaction makes illegal moves",
        "_transaction",
        "                if slot._lifecycle is not None and old is not ABSENT:",
        "                if False:",
        ("test_lifecycle.py::TestMoves",),
    ),
    Bug(
        "a wait looks for hope before it looks for a match",
        "_reach",
        "        if self.test(value):\n            return True\n        self.look(value)\n"
        "        return False\n",
        "        self.look(value)\n        return self.test(value)\n",
        ("test_lifecycle.py",),
    ),
    Bug(
        "a condition that may fail is taken for one that must",
        "_reach",
        "    fewest = sum(False not in part for part in parts)",
        "    fewest = sum(False in part for part in parts)",
        ("test_lifecycle.py::TestWaits",),
    ),
    Bug(
        "a condition that may hold is taken for one that does",
        "_reach",
        "            if result is holds or hope is None or hope(value)",
        "            if result is holds or hope is None",
        ("test_lifecycle.py::TestWaits",),
    ),
    # Explains itself: promise P14.
    Bug(
        "a wait that sleeps keeps all that it was shown",
        "_mailbox",
        "deque([cell], SHOWN + 1)",
        "deque([cell])",
        ("test_explanations.py", "test_waits.py"),
    ),
    Bug(
        "a wait is told of what came before it",
        "_explaining",
        "        if since < after[REVISION] <= last[REVISION]\n",
        "        if after[REVISION] <= last[REVISION]\n",
        ("test_explanations.py",),
    ),
    Bug(
        "a subscription that was closed is still listed",
        "_streams",
        "            self._slot._core.streams.pop(id(self), None)\n",
        "",
        ("test_inspection.py",),
    ),
    Bug(
        "the wait of a subscription seems to begin with each record",
        "_sleepers",
        "        test, began, deadline = asked\n    return Sleeper(",
        "        test, _, deadline = asked\n    return Sleeper(",
        ("test_inspection.py", "test_watchdog.py"),
    ),
    Bug(
        "the watchdog tells of a wait again and again",
        "_watchdog",
        "            if sleeper.identity in told:\n",
        "            if False:\n",
        ("test_watchdog.py",),
    ),
    Bug(
        "a quick read leaves the place where it was",
        "_streams",
        "        if type(queue) is ChainQueue and queue.cell[REVISION] > stood[REVISION]:\n",
        "        if False:\n",
        ("test_subscription.py",),
    ),
    Bug(
        "a bounded queue stands where it has pulled to",
        "_streams",
        "        if type(queue) is ChainQueue and queue.cell[REVISION] > stood[REVISION]:\n",
        "        if queue.cell[REVISION] > stood[REVISION]:\n",
        ("test_subscription.py", "test_commits.py"),
    ),
    Bug(
        "a subscription to a store stands before its opening",
        "_streams",
        "        if type(queue) is ChainQueue and queue.cell[REVISION] > stood[REVISION]:\n",
        "        if type(queue) is ChainQueue:\n",
        ("test_commits.py",),
    ),
)


def plant(bug: Bug, root: Path) -> None:
    """Make a copy of the project in *root* that has *bug*."""
    shutil.copytree(
        ROOT / "statestore", root / "statestore", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("tests", "docs", "pyproject.toml"):
        (root / name).symlink_to(ROOT / name)
    module = root / "statestore" / f"{bug.module}.py"
    source = module.read_text(encoding="utf-8")
    module.write_text(source.replace(bug.right, bug.wrong), encoding="utf-8")


def is_out_of_reach(bug: Bug) -> bool:
    """Tell whether only schedules show *bug*, which this Python cannot explore."""
    return sys.version_info < (3, 12) and all(SCHEDULES in test for test in bug.tests)


def is_found(bug: Bug) -> bool:
    """Tell whether the tests of *bug* fail, or get stuck, when it is planted."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        plant(bug, root)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += [f"--override-ini=faulthandler_timeout={PATIENCE / 10}"]
        command += [f"tests/{test}" for test in bug.tests]
        try:
            done = subprocess.run(  # noqa: S603 -- our own tests
                command,
                cwd=root,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(root)},
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return True
    # 1 says that tests failed, less than 0 that they crashed; with any other they did not run.
    return done.returncode == 1 or done.returncode < 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant all bugs, or those that are named; succeed if every one of them is found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="how many to plant at a time")
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of names; all without")
    options = parser.parse_args(arguments)
    chosen = [b for b in BUGS if not options.names or any(n in b.name for n in options.names)]
    planted = [bug for bug in chosen if not is_out_of_reach(bug)]
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(is_found, planted))
    for bug, was_found in zip(planted, found, strict=True):
        print(f"{'found' if was_found else 'MISSED':<8}{bug.name}")
    for bug in chosen:
        if bug not in planted:
            print(f"SKIPPED {bug.name}: what explores schedules needs Python 3.12")
    print(f"{len(planted)} bugs planted: {sum(found)} found, {len(found) - sum(found)} missed")
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
