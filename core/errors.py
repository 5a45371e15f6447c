"""The one error family for people. Anything else that is raised is a bug."""

from core.words import say


class UserError(Exception):
    """An error that a person can fix.

    `code` is the key of a sentence in `core/locales`, which names the field, the value and the remedy; `facts` fill its
    placeholders. The sentence is made when it is shown, in the reader's language.
    """

    def __init__(self, code: str, /, **facts: object) -> None:
        super().__init__(code, facts)
        self.code = code
        self.facts = facts

    def __str__(self) -> str:
        return say(self.code, **self.facts)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.code, self.facts))


def _rebuild(code: str, facts: dict[str, object]) -> UserError:
    return UserError(code, **facts)
