"""The server, with OpenAI's client, broken bodies, clients that vanish, and the page."""

import asyncio
import json
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")
openai = pytest.importorskip("openai")

from decode.models import decoder  # noqa: E402

from mlx_transformers.chat.assistant import Assistant, Piece, Request  # noqa: E402
from mlx_transformers.chat.chat_format import ChatFormat  # noqa: E402
from mlx_transformers.chat.toolbox import Toolbox  # noqa: E402
from mlx_transformers.core.errors import RunError  # noqa: E402
from mlx_transformers.data.batches.preferences import Preferences  # noqa: E402
from mlx_transformers.data.chat_template import CHATML_TOOLS, ChatTemplate  # noqa: E402
from mlx_transformers.data.pieces import Piece as Row  # noqa: E402
from mlx_transformers.data.tokenizers.byte import ByteTokenizer  # noqa: E402
from mlx_transformers.serve.app import Limits, application  # noqa: E402
from mlx_transformers.serve.page import Page  # noqa: E402
from mlx_transformers.serve.run import bound, is_loopback  # noqa: E402
from mlx_transformers.serve.worker import Worker  # noqa: E402

BAD_CALLS = (
    (5, "is no list"),
    ([5], "without a function"),
    ([{"id": "a"}], "without a function"),
    ([{"function": {"arguments": "{"}}], "are no JSON"),
    ([{"function": {"arguments": "[1]"}}], "are no object"),
)
CALL = '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'


class Patient(Assistant):
    """Answers what its prompt asks for: a call, or letters without end until it is stopped."""

    stopped = threading.Event()

    def stream(self, request):
        prompt = bytes(request.tokens).decode()
        if "call f" in prompt and "im_start|>tool" not in prompt:
            yield from (Piece(CALL[i : i + 5]) for i in range(0, len(CALL), 5))
            yield Piece("", end="stop string", n_tokens=9)
        elif "forever" in prompt:
            try:
                while True:
                    time.sleep(0.01)
                    yield Piece("a")
            finally:
                self.stopped.set()
        else:
            yield from super().stream(request)


def opened():
    form = ChatFormat(ChatTemplate(CHATML_TOOLS), ByteTokenizer())
    model = decoder(context=512, vocab_size=256)
    return Patient(model, ByteTokenizer(), form), Toolbox(()), "tiny"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a server in a thread, and the file of its choices."""
    limits = Limits(body=4000, tokens=16, waiting=2)
    worker = Worker(opened, limits.waiting)
    file = tmp_path_factory.mktemp("served") / "preferences.jsonl"
    pages = Page(worker, Request((), 8), limits, file).routes()
    listening = bound("127.0.0.1", 0)
    app = application(worker, limits, more=pages)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", file
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture(scope="module")
def client(served):
    return openai.OpenAI(base_url=f"{served[0]}/v1", api_key="none", max_retries=0)


def post(address, body, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(address, content, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_completions_have_choices_counts_and_log_probabilities(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    options = {"model": "tiny", "temperature": 0, "max_tokens": 5}
    both = client.completions.create(prompt=["ab", "cd"], n=2, logprobs=2, seed=1, **options)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert both.choices[0].text == both.choices[1].text
    assert (both.usage.prompt_tokens, both.usage.completion_tokens) == (4, 20)
    known = both.choices[0].logprobs
    assert len(known.tokens) == 5
    assert known.token_logprobs[0] == pytest.approx(max(known.top_logprobs[0].values()))
    stream = client.completions.create(prompt="ab", stream=True, **options)
    assert "".join(chunk.choices[0].text for chunk in stream) == both.choices[0].text


def test_conversations_are_answered_whole_and_in_a_stream(client):
    asked = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    options = {"model": "tiny", "messages": asked, "temperature": 0, "max_tokens": 4}
    whole = client.chat.completions.create(logprobs=True, top_logprobs=1, **options)
    choice = whole.choices[0]
    assert choice.finish_reason == "length"
    assert len(choice.logprobs.content) == 4
    more = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = client.chat.completions.create(**options, **more)
    written = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert written == choice.message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert last.usage == whole.usage


def test_calls_of_the_clients_tools_are_returned(client):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    asked = [{"role": "user", "content": "call f"}]
    options = {"model": "tiny", "messages": asked, "tools": tools}
    choice = client.chat.completions.create(**options).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].function.arguments == '{"x": 1}'
    chunks = list(client.chat.completions.create(stream=True, **options))
    assert not any(chunk.choices[0].delta.content for chunk in chunks)
    assert chunks[-1].choices[0].delta.tool_calls[0].function.name == "f"
    turns = [*asked, choice.message, {"role": "tool", "tool_call_id": "1", "content": "no"}]
    answer = client.chat.completions.create(model="tiny", messages=turns, max_tokens=2)
    assert answer.usage.completion_tokens == 2


MESSAGES = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "no JSON"),
        (b"[1]", 400, "body"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, 400, "'king'"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "no content"),
        ({"messages": MESSAGES, "model": "big"}, 404, "no model 'big'"),
        ({"messages": MESSAGES, "max_tokens": 99}, 400, "at most 16"),
        ({"messages": MESSAGES, "logit_bias": {"1": 2}}, 400, "logit_bias"),
        ({"messages": MESSAGES, "tempreature": 1}, 400, "isn't supported"),
        ({"messages": [{"role": "user", "content": "x" * 600}]}, 400, "Shorten it"),
        (b" " * 5000, 413, "larger than"),
        ({"messages": [{"role": [], "content": "a"}]}, 400, "has the role []"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, "surrogate"),
        *(({"messages": [{"role": "assistant", "tool_calls": c}]}, 400, w) for c, w in BAD_CALLS),
    ],
)
def test_bad_bodies_are_refused(served, body, status, words):
    found = post(f"{served[0]}/v1/chat/completions", body)
    assert found[0] == status
    assert words in json.loads(found[1])["error"]["message"]


@pytest.mark.parametrize("prompt", [[], [[]], [-1], [999]])
def test_prompts_without_a_known_token_are_refused(served, prompt):
    assert post(f"{served[0]}/v1/completions", {"prompt": prompt})[0] == 400


def test_other_sites_are_refused(served):
    assert post(f"{served[0]}/page/choice", b"{}", **{"Content-Type": "text/plain"})[0] == 415
    assert post(f"{served[0]}/v1/completions", {"prompt": "a"}, Host="evil.example")[0] == 400


def test_a_client_that_vanishes_ends_its_answer_and_others_are_told_to_wait(served, client):
    Patient.stopped.clear()
    options = {"model": "tiny", "prompt": "forever", "stream": True}
    one = client.completions.create(**options)
    next(iter(one))
    refused = []

    def ask():
        try:
            client.completions.create(model="tiny", prompt="ab", max_tokens=1)
        except openai.RateLimitError as error:
            refused.append(error)

    others = [threading.Thread(target=ask) for _ in range(3)]
    for thread in others:
        thread.start()
    end = time.monotonic() + 20
    while len(refused) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    one.close()
    for thread in others:
        thread.join()
    assert Patient.stopped.wait(20)
    assert len(refused) == 2
    assert client.completions.create(model="tiny", prompt="ab", max_tokens=1).choices


def test_a_port_in_use_is_an_error_with_a_cure():
    with bound("127.0.0.1", 0) as taken, pytest.raises(RunError, match="--port"):
        bound("127.0.0.1", taken.getsockname()[1])
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))


def test_choices_on_the_page_become_rows_of_preferences(served):
    address, file = served
    with urllib.request.urlopen(address) as page:
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "innerHTML" not in page.read().decode()
    talk = {"messages": MESSAGES, "answers": 2, "seed": 3}
    status, lines = post(f"{address}/page/answers", talk)
    events = [json.loads(line) for line in lines.splitlines()]
    assert status == 200
    assert [event["index"] for event in events if event.get("end")] == [0, 1]
    hostile = "<script>alert(1)</script>\n"
    choice = {"messages": MESSAGES, "chosen": hostile, "rejected": "no"}
    assert post(f"{address}/page/choice", choice)[0] == 200
    assert post(f"{address}/page/choice", {**choice, "rejected": hostile})[0] == 400
    assert post(f"{address}/page/rating", {"messages": MESSAGES, "answer": "a", "good": False})
    (row,) = map(json.loads, file.read_text().splitlines())
    # DPO's recipe reads the row as it is, and what was chosen is learned from.
    batch = Preferences(special_tokens=True)
    piece = batch.accept(Row("", where="row 1", record=row))
    tokens, counted, *_ = batch.encode(piece.record, ByteTokenizer(), {})
    learned = bytes(t for t, c in zip(tokens, counted, strict=True) if c and t < 256)
    assert learned.decode() == row["chosen"]
    prompt = "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
    assert row == {"prompt": prompt, "chosen": f"{hostile}<|im_end|>", "rejected": "no<|im_end|>"}
    (row,) = map(json.loads, file.with_name("preferences-ratings.jsonl").read_text().splitlines())
    assert row == {"prompt": prompt, "completion": "a<|im_end|>", "label": False}


def test_closing_a_worker_waits_no_longer_than_its_grace_and_ends_what_waits():
    release = threading.Event()

    def slow(state):
        release.wait(30)
        yield state

    async def ask(worker):
        return [item async for item in worker.run(slow)]

    async def both():
        worker = Worker(lambda: 1, waiting=2)
        asked = [asyncio.create_task(ask(worker)) for _ in range(2)]
        await asyncio.sleep(0.05)
        idle = worker.close(0.05)
        release.set()
        return idle, await asyncio.wait_for(asyncio.gather(*asked), 20), worker.close(20)

    assert asyncio.run(both()) == (False, [[], []], True)
