"""Who gets in, how long they may wait, and who goes first.

Three bounds keep answers quick and memory flat, however much is asked of the service:

* Door      requests under way, batches apart from the rest; one too many is refused at once
* Places    utterances under way, which share encoder and engine; conversations before batches
* Patience  how long one request may take: to its deadline, and no longer than its client stays

Streams, the answers that go on for as long as they are read, are bounded by themselves: they only
wait, and take no request's room.

What one caller may ask for is another question, which concerns the caller alone: `service.access`
decides it before `Door.admit`.
"""
