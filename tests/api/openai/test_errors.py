"""The words that OpenAI's clients expect, and the plain ones that others get."""

import pytest

from mlxd.api.openai.errors import error_body
from mlxd.errors import ContextTooLong, InvalidBody, MlxdError, StoreUnavailable


@pytest.mark.parametrize(
    ("error", "plain", "words"),
    [
        (
            InvalidBody("it is not a JSON object."),
            "The request body can't be used: it is not a JSON object.",
            "We could not parse the JSON body of your request: it is not a JSON object.",
        ),
        (
            StoreUnavailable(reason="the disk is full"),
            "The server can't store the response: the disk is full.",
            "The server can't store the response: the disk is full. Try again later, or with store "
            "set to false.",
        ),
        (
            ContextTooLong(prompt_tokens=9, context_length=8),
            "The prompt has 9 tokens; the model's context takes 8.",
            "This model's maximum context length is 8 tokens. However, your messages resulted in 9 "
            "tokens. Please reduce the length of the messages.",
        ),
    ],
)
def test_errors_that_openai_words_itself_are_plain_elsewhere(
    error: MlxdError, plain: str, words: str
) -> None:
    assert str(error) == plain
    assert error_body(error, prompt="input")["error"]["message"] == words
