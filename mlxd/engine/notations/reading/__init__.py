"""Readers of tool calls while their text arrives; what several notations share.

What a reader promises, whatever the model writes:

- A call is opened as soon as an offered tool's name is known, and its arguments follow as text that
  adds up to what a non-streaming answer has. Arguments in JSON are copied as the model wrote them;
  other notations are turned into JSON by the tool's schema.
- Before a call is opened nothing is decided: markup that turns out to be no call, or that names a
  tool that was not offered, is text again, word for word, and a note says why.
- Arguments are repaired only where one reading is possible (see `values`). Brackets are closed only
  behind a whole value, where the model itself ended the call or its answer; never where the length
  limit cut it.
- Arguments that break after a part of them was sent can't be taken back. The rest of the call up to
  its closing marker then follows as it is: the caller gets all that the model wrote, which does not
  parse, and can tell the model so. Cutting it, or closing it, could run a tool with half of its
  arguments. A call that the text ends in keeps what was sent. A note says so in both cases.
- The model's own id of a call is kept if it has at most 64 plain characters and is new in the
  conversation; else the call gets one.
"""
