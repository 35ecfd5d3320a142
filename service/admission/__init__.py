"""Admission control: capacity limits, deadlines and priorities.

Three limits keep latency and memory bounded under any load:

* Door             requests in flight, batches counted separately; any more are refused at once
* Places           utterances in flight, which share encoder and engine; conversations first
* RequestDeadline  the time of one request: until its deadline, or until its client disconnects

Event streams, which last as long as they are read, have a limit of their own: they only wait, and
take no request's capacity.

The quota of one caller is checked before `Door.admit`, by `service.access`.
"""
