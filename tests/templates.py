"""Chat templates with the habits of well-known families, and the control tokens they write.

They are written for these tests: each one raises, drops or reorders where its family does.
"""

from tests.tiny_model import CHATML_TEMPLATE, OPEN_THINK_TEMPLATE

PLAIN_CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are an assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

SYSTEM_FIRST = """
{%- for message in messages -%}
    {%- if message.role == 'system' and not loop.first -%}
        {{- raise_exception('System message must be at the beginning.') -}}
    {%- endif -%}
    {%- if message.role not in ['system', 'user', 'assistant', 'tool'] -%}
        {{- raise_exception('Unexpected role: ' + message.role) -}}
    {%- endif -%}
    {%- if message.role == 'assistant' and message.tool_calls -%}
        {%- if message.tool_calls | length != 1 -%}
            {{- raise_exception('This model only supports single tool-calls at once!') -}}
        {%- endif -%}
        {%- set call = message.tool_calls[0].function -%}
        {{- '<|head|>assistant<|tail|>\\n\\n' + message.content + '{"name": "' + call.name -}}
        {{- '", "parameters": ' + (call.arguments | tojson) + '}<|eot|>' -}}
    {%- else -%}
        {{- '<|head|>' + (message.role if message.role != 'tool' else 'ipython') -}}
        {{- '<|tail|>\\n\\n' + (message.content | trim) -}}
        {%- if loop.first and tools -%}
            {{- '\\nYou may call:\\n' + (tools | tojson(indent=2)) -}}
        {%- endif -%}
        {{- '<|eot|>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|head|>assistant<|tail|>\\n\\n' }}{% endif -%}
"""

ALTERNATING = """
{%- if messages[0].role == 'system' -%}
    {{- raise_exception('System role not supported') -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/...') -}}
    {%- endif -%}
    {{- '<|head|>' + ('model' if message.role == 'assistant' else message.role) + '\\n' -}}
    {{- (message.content | trim) + '<|eot|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|head|>model\\n' }}{% endif -%}
"""

BRACKETS = """
{%- set found = namespace(index=0) -%}
{%- set rest = messages[1:] if messages[0].role == 'system' else messages -%}
{%- for message in rest -%}
    {%- if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) -%}
        {%- if (message.role == 'user') != (found.index % 2 == 0) -%}
            {{- raise_exception('Roles must alternate user and assistant') -}}
        {%- endif -%}
        {%- set found.index = found.index + 1 -%}
    {%- endif -%}
{%- endfor -%}
{%- if messages[0].role == 'system' -%}
    {{- '[SYS]' + messages[0].content + '[/SYS]' -}}
{%- endif -%}
{%- if tools %}{{ '[TOOLS]' + (tools | tojson) + '[/TOOLS]' }}{% endif -%}
{%- for message in rest -%}
    {%- if message.role == 'user' -%}
        {{- '[INST]' + message.content + '[/INST]' -}}
    {%- elif message.tool_calls -%}
        {{- '[TOOL_CALLS][' -}}
        {%- for call in message.tool_calls -%}
            {%- if call.id | length != 9 -%}
                {{- raise_exception('Tool call IDs should be alphanumeric strings of length 9!') -}}
            {%- endif -%}
            {{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' -}}
            {{- ', ' if not loop.last else '' -}}
        {%- endfor -%}
        {{- '][EOS]' -}}
    {%- elif message.role == 'assistant' -%}
        {%- if not message.content -%}
            {{- raise_exception('An assistant message must have content or tool calls') -}}
        {%- endif -%}
        {{- message.content + '[EOS]' -}}
    {%- elif message.role == 'tool' -%}
        {%- if message.tool_call_id | length != 9 -%}
            {{- raise_exception('Tool call IDs should be alphanumeric strings of length 9!') -}}
        {%- endif -%}
        {{- '[RESULT]' + message.content + '[/RESULT]' -}}
    {%- else -%}
        {{- raise_exception('Only user, assistant and tool roles are supported') -}}
    {%- endif -%}
{%- endfor -%}
"""

ARGUMENTS_AS_TEXT = """
{%- for message in messages -%}
    {%- if message.role == 'system' %}{{ message.content + '\\n' }}{% endif -%}
    {%- if message.role == 'user' %}{{ '<|user|>' + message.content }}{% endif -%}
    {%- if message.role == 'assistant' -%}
        {{- '<|assistant|>' + (message.content or '') -}}
        {%- for call in message.tool_calls or [] -%}
            {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' -}}
            {{- call.function.arguments + '}\\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|eot|>' -}}
    {%- endif -%}
    {%- if message.role == 'tool' %}{{ '<|output|>' + message.content + '<|end|>' }}{% endif -%}
{%- endfor -%}
{%- if tools %}{{ '<|tools|>' + (tools | tojson) }}{% endif -%}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif -%}
"""

PARTS_ONLY = """
{%- for message in messages -%}
    {{- '<|head|>' + message.role + '\\n' -}}
    {%- for part in message.content if part.type == 'text' -%}
        {{- part.text -}}
    {%- endfor -%}
    {{- '<|eot|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|head|>assistant\\n' }}{% endif -%}
"""

NEEDS_A_QUESTION = """
{%- set found = namespace(user=false) -%}
{%- for message in messages -%}
    {%- if message.role == 'user' %}{% set found.user = true %}{% endif -%}
    {%- if message.role == 'system' and not loop.first -%}
        {{- raise_exception('System message must be at the beginning.') -}}
    {%- endif -%}
{%- endfor -%}
{%- if not found.user %}{{ raise_exception('No user query found in messages.') }}{% endif -%}
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' -}}
    {%- if message.reasoning_content -%}
        {{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' -}}
    {%- endif -%}
    {{- message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif -%}
"""

CONTROLS = (
    *("<|head|>", "<|tail|>", "<|eot|>", "<|user|>", "<|assistant|>", "<|output|>"),
    *("<|end|>", "<|tools|>", "[INST]", "[/INST]", "[SYS]", "[/SYS]", "[TOOLS]", "[/TOOLS]"),
    *("[TOOL_CALLS]", "[RESULT]", "[/RESULT]", "[EOS]"),
)
"""Control tokens of these templates, besides the tiny model's own."""

TEMPLATES = {
    "chatml": PLAIN_CHATML,
    "tools": CHATML_TEMPLATE,
    "open think": OPEN_THINK_TEMPLATE,
    "system first": SYSTEM_FIRST,
    "alternating": ALTERNATING,
    "brackets": BRACKETS,
    "arguments as text": ARGUMENTS_AS_TEXT,
    "parts only": PARTS_ONLY,
    "needs a question": NEEDS_A_QUESTION,
}
IN_PLACE = ("chatml", "tools", "open think", "system first", "parts only", "needs a question")
"""Templates that render each turn by itself, so that nothing is ever merged."""
