"""Load a model alone and print its short answer.

`python -m mlxd.engine.process.smoke_test FOLDER QUESTION`
"""

import sys

from mlxd.engine.process.imports import engine_imports
from mlxd.engine.protocol import ModelSpec
from mlxd.errors import ModelUnusable
from mlxd.messages import GenerateRequest, Message, Text

MAX_TOKENS = 24


def answer(folder: str, question: str) -> str:
    """The model's most likely answer; raises `ModelUnusable`."""
    with engine_imports():
        from mlx_lm.generate import stream_generate

        from mlxd.engine.models.loading import load
        from mlxd.engine.prompt.builder import PromptBuilder

    spec = ModelSpec(id="model", source=folder)
    loaded = load(spec)
    builder = PromptBuilder(loaded.tokenizer, spec, loaded.context_length)
    request = GenerateRequest("speak", "model", (Message("user", (Text(question),)),))
    steps = stream_generate(
        loaded.model, loaded.tokenizer, builder.build(request).tokens, max_tokens=MAX_TOKENS
    )
    return "".join(step.text for step in steps)


def main() -> int:
    folder, question = sys.argv[1:]
    try:
        sys.stdout.write(answer(folder, question) + "\n")
    except ModelUnusable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
