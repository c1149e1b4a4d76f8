"""Owns telling a model's thoughts from its answer: which marks it puts around them, and where they end."""

from enum import Enum, auto
from typing import NamedTuple

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.inference.tool_parsers.marks import Until
from loraplex.platform.settings import ReasoningParser


class Marks(NamedTuple):
    """What stands around thoughts."""

    begin: str
    end: str


_MARKS = {"think": Marks("<think>", "</think>"), "mistral": Marks("[THINK]", "[/THINK]")}


def reasoning_marks(name: ReasoningParser, template: str) -> Marks | None:
    """The marks called `name`; with `auto` those that the chat template knows. None if there are none."""
    if name == "auto":
        return next((marks for marks in _MARKS.values() if marks.end in template), None)
    return _MARKS.get(name)


class Stage(Enum):
    """Where an answer stands."""

    OPEN = auto()  # it may begin with thoughts
    THINKING = auto()
    SAYING = auto()


def stage_behind(prompt: str, marks: Marks) -> Stage:
    """Where an answer begins: templates can open the thoughts, or close them at once."""
    end = prompt.rstrip()
    if end.endswith(marks.begin):
        return Stage.THINKING
    return Stage.SAYING if end.endswith(marks.end) else Stage.OPEN


class Split(NamedTuple):
    """What a text adds to thoughts and to what is said."""

    thought: str
    said: str


class ThoughtSplitter:
    """Splits one answer.

    Attributes:
        stage: where it stands.
        thought: it has had thoughts, be they empty.
    """

    def __init__(self, marks: Marks, stage: Stage) -> None:
        self._marks = marks
        self._until = Until(marks.end)
        self._held: list[str] = []
        self._at_start = True  # of thoughts, or of what is said after them: line ends are left out
        self.stage = stage
        self.thought = stage is Stage.THINKING

    @property
    def done(self) -> bool:
        """All that follows is said."""
        return self.stage is Stage.SAYING and not self._at_start

    def feed(self, text: str) -> Split:
        """More text."""
        if self.stage is Stage.OPEN:
            text = self._open(text)
        thought = ""
        if self.stage is Stage.THINKING:
            thought, mark, text = self._until.feed(self._started(text))
            if mark is not None:
                self.stage, self._at_start = Stage.SAYING, True
        if self.stage is not Stage.SAYING:
            return Split(thought, "")
        return Split(thought, self._started(text))

    def end(self) -> Split:
        """What was kept."""
        held, self._held = "".join(self._held), []
        return Split(self._until.end().rstrip() if self.stage is Stage.THINKING else "", held)

    def _open(self, text: str) -> str:
        """What remains to be read once it is clear whether there are thoughts."""
        if text.isspace():
            self._held.append(text)  # it decides nothing, and there can be any amount of it
            return ""
        text, self._held = "".join((*self._held, text)), []
        start = text.lstrip()
        begin = self._marks.begin
        if start.startswith(begin):
            self.stage, self.thought = Stage.THINKING, True
            return start[len(begin) :]
        if begin.startswith(start):
            self._held = [text]
            return ""
        self.stage, self._at_start = Stage.SAYING, False
        return text

    def _started(self, text: str) -> str:
        if not self._at_start:
            return text
        text = text.lstrip("\r\n")
        self._at_start = not text
        return text


class ThoughtCounter:
    """Counts the tokens of thoughts: those up to the one that ends them."""

    def __init__(self, marks: Marks, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._end_id = tokenizer.token_id(marks.end)
        self._pieces: list[str] = []
        self._encoded = 0  # pieces that are in the count
        self._ended = False
        self._count = 0

    @property
    def tokens(self) -> int:
        """Those seen so far. Where the mark is no token of its own, the thoughts are encoded again."""
        if self._end_id is None and self._encoded < len(self._pieces):
            self._encoded = len(self._pieces)
            text = "".join(self._pieces)
            self._count = len(self._tokenizer.encode(text, add_special_tokens=False))
        return self._count

    def see(self, token_ids: tuple[int, ...], thought: str) -> None:
        """Tokens that came while there was nothing said yet, and what they added to the thoughts."""
        if self._end_id is None:
            self._pieces += [thought] if thought else []
        elif not self._ended:
            self._ended = self._end_id in token_ids
            self._count += token_ids.index(self._end_id) + 1 if self._ended else len(token_ids)
