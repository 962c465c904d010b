# SPDX-License-Identifier: Apache-2.0
"""gdb commands for the tasks of daemon/loop/task.c, on a live firstlightd and on a core file.

    gdb -p "$(pgrep -P KEEPER)" -x tools/dev/gdb.py

    task list           every task: address, state (! = cancelled), function, where it waits
    task bt ADDRESS     its stack
    task apply all bt   all stacks

No register is changed: while a stack is printed, an unwinder tells gdb that the caller of the
newest frame is the frame in which the task suspended.
"""
import re
from types import SimpleNamespace

import gdb
from gdb.unwinder import Unwinder, register_unwinder

# program counter, stack pointer, frame pointer
REGISTERS = {"i386:x86-64": ("rip", "rsp", "rbp"), "aarch64": ("pc", "sp", "x29")}


class TaskUnwinder(Unwinder):
    """Leads from the newest frame (known by its sp) to where a task suspended."""

    def __init__(self):
        super().__init__("firstlight-task")
        self.enabled = False

    def __call__(self, pending):
        if int(pending.read_register(self.names[1])) != self.sp:
            return None
        # The caller's frame must not seem to lie inside this one.
        inside = SimpleNamespace(sp=gdb.Value(self.values[1] - 16),
                                 pc=pending.read_register(self.names[0]))
        info = pending.create_unwind_info(inside)
        for name, value in zip(self.names, self.values):
            kind = pending.read_register(name).type
            info.add_saved_register(name, gdb.Value(value).cast(kind))
        return info

    def backtrace(self, task):
        top = gdb.newest_frame()
        self.names = REGISTERS[top.architecture().name()]
        self.sp = int(top.read_register(self.names[1]))
        frame = task["frame"].cast(gdb.lookup_type("long").pointer())  # task_leave()'s
        self.values = int(frame[1]), int(task["frame"]) + 16, int(frame[0])
        self.enabled = True
        gdb.invalidate_cached_frames()
        try:
            text = gdb.execute("backtrace", to_string=True)
        finally:
            self.enabled = False
            gdb.invalidate_cached_frames()
        return text[text.index("\n#1 ") + 1:].splitlines()


UNWINDER = TaskUnwinder()
register_unwinder(None, UNWINDER, replace=True)


def select_loop():
    """Selects the thread that has a loop; answers the loop and its running task."""
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        loop = gdb.parse_and_eval("'loop.c'::self")
        if loop:
            return loop, int(gdb.parse_and_eval("'task.c'::now.task"))
    raise gdb.GdbError("no thread runs a loop")


def tasks(loop):
    kind = gdb.lookup_type("struct task")
    offset = kind["all_link"].bitpos // 8
    head = loop["tasks"]["all"]
    link = head["next"]
    while link != head.address:
        yield gdb.Value(int(link) - offset).cast(kind.pointer())
        link = link["next"]


def show(task, running, whole):
    lines = []
    if int(task) == running or not task["started"]:
        state = "running" if int(task) == running else "new"
    else:
        state = "runnable" if task["queued"] else "suspended"
        lines = UNWINDER.backtrace(task)
    places = [re.search(r" at (\S+:\d+)$", line) for line in lines]
    print("0x%x %-10s %s %s" % (
        int(task), state + ("!" if task["cancelled"] else ""),
        task["fn"].format_string(address=False),
        next((p[1] for p in places if p and "/loop/" not in p[1]), "")))
    if whole:
        print("\n".join(lines) + "\n")


class TaskCommand(gdb.Command):
    """task list | task bt ADDRESS | task apply all bt: the stackful tasks of firstlightd."""

    def __init__(self):
        super().__init__("task", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        before = gdb.selected_thread()
        words = gdb.string_to_argv(argument)
        try:
            loop, running = select_loop()
            if words in (["list"], ["apply", "all", "bt"]):
                for task in tasks(loop):
                    show(task, running, len(words) > 1)
            elif len(words) == 2 and words[0] == "bt":
                kind = gdb.lookup_type("struct task").pointer()
                show(gdb.parse_and_eval(words[1]).cast(kind), running, True)
            else:
                raise gdb.GdbError(self.__doc__)
        finally:
            before.switch()


TaskCommand()
