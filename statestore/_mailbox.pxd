cimport cython
from statestore._core cimport Slot
from statestore._network cimport Network


cdef class Waiter:
    cdef public LoopPort port
    cdef public list cell
    cdef public object ask, began, deadline, error, future, order, reader, since, target, test, timer


cdef class LoopPort:
    cdef public LoopMailbox _mailbox
    cdef public Slot _slot
    cdef public dict _ports, _targets, _tests
    cdef public list _start, seen
    cdef public object _recent, _since, _token, _turn
    cpdef notify(self)
    cpdef add(self, Waiter waiter, seconds=*)
    cpdef discard(self, Waiter waiter)
    cpdef drain(self)
    @cython.locals(cell=list)
    cpdef bint _show_all(self)
    @cython.locals(found=list, waiter=Waiter)
    cpdef _show(self, list cell)
    @cython.locals(waiter=Waiter)
    cpdef list _find(self, value, revision)
    cpdef _forget(self, Waiter waiter)


cdef class LoopMailbox:
    cdef object __weakref__
    cdef public bint is_scheduled
    cdef public dict dirty, lines, ports
    cdef public object _loop, _network, due
    cpdef LoopPort port(self, Slot slot, list cell)
    cpdef notify(self, port)
    cpdef schedule(self)
    cpdef _drain(self)
    cpdef _drain_one(self, port)


cdef class LoopNetwork(Network):
    cdef public LoopMailbox _mailbox
