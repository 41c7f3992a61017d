"""A model folder whose chat template writes tools: small models to measure with often have none.

A server that describes tools in words of its own would read more than one that leaves them out.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPLATE = r"""
{%- for message in messages -%}
    {%- set role = 'user' if message.role == 'tool' else message.role -%}
    {{- '<|im_start|>' + role + '\n' -}}
    {%- if message.role == 'tool' -%}
        {{- '<tool_response>\n' + message.content + '\n</tool_response>' -}}
    {%- else -%}
        {{- message.content or '' -}}
    {%- endif -%}
    {%- for call in message.tool_calls or [] -%}
        {{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' -}}
        {%- set arguments = call.function.arguments -%}
        {{- (arguments if arguments is string else arguments | tojson) + '}\n</tool_call>' -}}
    {%- endfor -%}
    {%- if loop.first and tools -%}
        {{- '\nThere are these tools:\n' -}}
        {%- for tool in tools %}{{ (tool | tojson) + '\n' }}{% endfor -%}
        {{- 'Call one like this:\n<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>' -}}
    {%- endif -%}
    {{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}
"""
"""ChatML, with tool calls as Qwen writes them."""


@contextmanager
def with_tools(model: Path) -> Iterator[Path]:
    """`model` itself if its template writes tools, else the same weights with `TEMPLATE`."""
    template, file = model / "chat_template.jinja", model / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    own = template.read_text("utf-8") if template.exists() else config.get("chat_template")
    if "tools" in str(own):
        yield model
        return
    with tempfile.TemporaryDirectory() as folder:
        for each in model.iterdir():
            if each not in (template, file):
                # No symbolic links: mlxd follows none out of a model's folder.
                shutil.copy2(each, Path(folder) / each.name, follow_symlinks=True)
        config["chat_template"] = TEMPLATE
        (Path(folder) / file.name).write_text(json.dumps(config), encoding="utf-8")
        yield Path(folder)
