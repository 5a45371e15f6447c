"""What a test expects to be refused."""

import pytest

from core.errors import UserError


def refused(code, work, *arguments, **named):
    """The sentence of the UserError with this code that a call ends in."""
    with pytest.raises(UserError) as caught:
        work(*arguments, **named)
    assert caught.value.code == code, str(caught.value)
    return str(caught.value)
