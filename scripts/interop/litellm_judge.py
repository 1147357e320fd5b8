"""A judge behind the LiteLLM proxy: its replies are computed from the request, by the rules of aimock_judge.mjs."""

import json
import os
import re

import litellm

GOOD, BAD = 0.9, 0.1


def text_of(messages, role):
    parts = []
    for message in messages:
        content = message.get("content")
        if message.get("role") == role and content:
            parts.append(content if isinstance(content, str) else "".join(p.get("text", "") for p in content))
    return "\n".join(parts)


def verdict(system, share):
    """The member's name and value that the system message asks for."""
    score = re.search(r"a number from (-?[\d.]*\d) to (-?[\d.]*\d)", system)
    labels = re.search(r'one of ((?:(?:, | or |, or )?"[^"]*")+)', system)
    if score:
        low, high = float(score[1]), float(score[2])
        return "score", round(low + share * (high - low), 6)
    if labels:
        names = re.findall(r'"([^"]*)"', labels[1])
        return "label", names[0] if share > 0.5 else names[-1]
    return "verdict", share > 0.5


def reply_to(messages):
    """The reply as an object, and as text in the form that was asked for."""
    system, user = text_of(messages, "system"), text_of(messages, "user")
    share = BAD if "no idea" in user else GOOD
    name, value = verdict(system, share)
    reason = f"[litellm] The answer {'serves' if share > 0.5 else 'does not serve'} the customer."
    found = {"reason": reason, name: value}
    canary = re.search(r'"canary": "([0-9a-f]{6,})"', system)
    if canary:
        found["canary"] = canary[1]
    if "VERDICT:" in system:
        plain = value if isinstance(value, str) else json.dumps(value)
        return found, "\n".join([reason, *([canary[0]] if canary else []), f"VERDICT: {plain}"])
    return found, json.dumps(found)


class Judge(litellm.CustomLLM):
    async def acompletion(self, messages, model_response, optional_params, *args, **kwargs):
        found, text = reply_to(messages)
        tools = (optional_params or {}).get("tools")
        with open(os.environ["INTEROP_REQUESTS"], "a", encoding="utf-8") as log:
            log.write(json.dumps({"judge": "litellm", "canary": "canary" in found, "tools": bool(tools)}) + "\n")
        message, finish = {"role": "assistant", "content": text}, "stop"
        if tools:
            call = {"name": tools[0]["function"]["name"], "arguments": json.dumps(found)}
            message = {"role": "assistant", "content": None}
            message["tool_calls"] = [{"id": "call_1", "type": "function", "function": call}]
            finish = "tool_calls"
        model_response.choices = [litellm.Choices(index=0, finish_reason=finish, message=litellm.Message(**message))]
        model_response.usage = litellm.Usage(prompt_tokens=100, completion_tokens=20, total_tokens=120)
        return model_response


judge = Judge()
