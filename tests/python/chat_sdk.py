"""The official slack_sdk, unchanged but for its base URL: channels, messages, threads, reactions, pages, people, refusals, and Socket Mode with a
connection that is lost.

usage: chat_sdk.py --url http://127.0.0.1:8000 [--patience SECONDS]
"""

import argparse
import sys
import threading
import time

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.response import SocketModeResponse

# The least that a scenario has to call.
CALLS_MIN = 60

GENERAL, ALICE, BOB, BOT = "C0GENERAL00", "U0ALICE0000", "U0BOB000000", "U0BOT000000"


class Client(WebClient):
    """The SDK's own client, which counts its calls."""

    calls = 0

    def api_call(self, *arguments, **named):
        Client.calls += 1
        return super().api_call(*arguments, **named)


class Checks:
    """A server, and clients of it."""

    def __init__(self, url, patience):
        self.base = f"{url}/v1/"
        self.patience = patience
        self.alice = self.client("xoxp-dev-alice")
        self.bob = self.client("xoxp-dev-bob")
        self.bot = self.client("xoxb-dev-bot")

    def client(self, token=None):
        handlers = [RateLimitErrorRetryHandler(max_retry_count=3)]
        return Client(token=token, base_url=self.base, retry_handlers=handlers)

    def is_ready(self):
        try:
            return self.client().api_test()["ok"]
        except SlackApiError:
            return False

    def until(self, what, look):
        end = time.monotonic() + self.patience
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > end:
                raise AssertionError(f"waited {self.patience} s for: {what}")
            time.sleep(0.02)


def refuses(code, call, **arguments):
    """Fails unless the call is refused with a code, as the SDK's own exception."""
    try:
        call(**arguments)
    except SlackApiError as error:
        assert error.response["error"] == code, f"refused with {error.response['error']}, not {code}"
        return
    raise AssertionError(f"was not refused with {code}")


def who_calls(checks):
    test = checks.alice.auth_test()
    assert (test["user_id"], test["user"]) == (ALICE, "alice"), test.data
    assert checks.bot.auth_test()["bot_id"] == "B0BOT000000"
    refuses("invalid_auth", checks.client("xoxp-guessed").auth_test)
    refuses("not_authed", checks.client().auth_test)
    refuses("unknown_method", checks.alice.api_call, api_method="chat.doNothing")


def messages(checks):
    alice, bob = checks.alice, checks.bob
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "*bold* & <b>"}}]
    parent = alice.chat_postMessage(channel=GENERAL, text="a question ✓", blocks=blocks)
    assert parent["message"]["blocks"] == blocks
    replies = [bob.chat_postMessage(channel=GENERAL, text=f"answer {n}", thread_ts=parent["ts"]) for n in range(3)]
    thread = alice.conversations_replies(channel=GENERAL, ts=parent["ts"])["messages"]
    assert [it["text"] for it in thread] == ["a question ✓", "answer 0", "answer 1", "answer 2"]
    assert (thread[0]["reply_count"], thread[0]["latest_reply"]) == (3, replies[-1]["ts"])
    assert thread[0]["reply_users"] == [BOB]
    refuses("channel_not_found", alice.chat_postMessage, channel="C0NOTHERE00", text="x")
    refuses("no_text", alice.chat_postMessage, channel=GENERAL, text="")
    refuses("thread_not_found", alice.conversations_replies, channel=GENERAL, ts="1.000000")


def pages(checks):
    posted = [checks.alice.chat_postMessage(channel=GENERAL, text=f"page {n}")["ts"] for n in range(25)]
    seen, count = [], 0
    for page in checks.bob.conversations_history(channel=GENERAL, oldest=posted[0], inclusive=True, limit=10):
        seen += [it["ts"] for it in page["messages"]]
        count += 1
    assert (seen, count) == (posted[::-1], 3), (len(seen), count)


def conversations(checks):
    alice, bob = checks.alice, checks.bob
    channel = alice.conversations_create(name="plans")["channel"]["id"]
    refuses("name_taken", bob.conversations_create, name="plans")
    refuses("not_in_channel", bob.chat_postMessage, channel=channel, text="not yet")
    bob.conversations_join(channel=channel)
    bob.conversations_leave(channel=channel)
    alice.conversations_invite(channel=channel, users=[BOB])
    refuses("already_in_channel", alice.conversations_invite, channel=channel, users=[BOB])
    alice.conversations_setTopic(channel=channel, topic="what next")
    alice.conversations_setPurpose(channel=channel, purpose="to decide")
    alice.conversations_rename(channel=channel, name="plans-2")
    info = bob.conversations_info(channel=channel)["channel"]
    assert (info["name"], info["topic"]["value"]) == ("plans-2", "what next"), info
    members = [user for page in bob.conversations_members(channel=channel, limit=1) for user in page["members"]]
    assert sorted(members) == [ALICE, BOB], members
    listed = [it["id"] for page in alice.conversations_list(limit=1) for it in page["channels"]]
    assert sorted(listed) == sorted([GENERAL, channel]), listed
    direct = alice.conversations_open(users=[BOB])["channel"]["id"]
    assert bob.conversations_open(users=[ALICE])["channel"]["id"] == direct
    refuses("channel_not_found", checks.bot.conversations_history, channel=direct)
    alice.conversations_archive(channel=channel)
    refuses("is_archived", alice.chat_postMessage, channel=channel, text="too late")
    alice.conversations_unarchive(channel=channel)
    alice.conversations_kick(channel=channel, user=BOB)
    refuses("not_in_channel", bob.chat_postMessage, channel=channel, text="gone")


def people(checks):
    assert checks.alice.users_info(user=BOB)["user"]["name"] == "bob"
    names = {user["name"] for page in checks.alice.users_list(limit=2) for user in page["members"]}
    assert names == {"alice", "bob", "bot"}, names
    refuses("user_not_found", checks.alice.users_info, user="U0NOBODY000")
    checks.bob.users_setPresence(presence="away")
    assert checks.alice.users_getPresence(user=BOB)["presence"] == "away"
    checks.bob.users_setPresence(presence="auto")


def changes(checks):
    alice, bob = checks.alice, checks.bob
    ts = alice.chat_postMessage(channel=GENERAL, text="frist")["ts"]
    alice.chat_update(channel=GENERAL, ts=ts, text="first")
    refuses("cant_update_message", bob.chat_update, channel=GENERAL, ts=ts, text="mine")
    bob.reactions_add(channel=GENERAL, timestamp=ts, name="thumbsup")
    refuses("already_reacted", bob.reactions_add, channel=GENERAL, timestamp=ts, name="thumbsup")
    message = alice.reactions_get(channel=GENERAL, timestamp=ts)["message"]
    assert message["reactions"] == [{"name": "thumbsup", "users": [BOB], "count": 1}], message
    assert (message["text"], message["edited"]["user"]) == ("first", ALICE), message
    bob.reactions_remove(channel=GENERAL, timestamp=ts, name="thumbsup")
    refuses("no_reaction", bob.reactions_remove, channel=GENERAL, timestamp=ts, name="thumbsup")
    assert GENERAL in alice.chat_getPermalink(channel=GENERAL, message_ts=ts)["permalink"]
    bob.conversations_mark(channel=GENERAL, ts=ts)
    assert bob.conversations_info(channel=GENERAL)["channel"]["last_read"] == ts
    later = int(time.time()) + 86_400
    waiting = alice.chat_scheduleMessage(channel=GENERAL, text="tomorrow", post_at=later)["scheduled_message_id"]
    listed = alice.chat_scheduledMessages_list(channel=GENERAL)["scheduled_messages"]
    assert [it["id"] for it in listed] == [waiting], listed
    alice.chat_deleteScheduledMessage(channel=GENERAL, scheduled_message_id=waiting)
    alice.chat_delete(channel=GENERAL, ts=ts)
    refuses("message_not_found", alice.chat_delete, channel=GENERAL, ts=ts)


class Listener:
    """An app's connection that notes what it is given."""

    def __init__(self, checks, acknowledges=lambda payload: True):
        self.heard = []
        self.acknowledges = acknowledges
        # The SDK takes the token of the app from its own argument.
        self.client = SocketModeClient(app_token="xapp-dev", web_client=checks.client(), ping_interval=5)
        self.client.socket_mode_request_listeners.append(self.hear)
        self.lock = threading.Lock()
        self.client.connect()

    def hear(self, client, request):
        with self.lock:
            self.heard.append(request)
        if self.acknowledges(request.payload):
            client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))

    def find(self, text, retried=False):
        with self.lock:
            for request in self.heard:
                if request.payload["event"].get("text") == text and bool(request.retry_attempt) >= retried:
                    return request
        return None


def sockets(checks):
    remembers = []
    listener = Listener(checks, lambda payload: payload["event"].get("text") != "remember" or remembers)
    checks.alice.chat_postMessage(channel=GENERAL, text="heard")
    heard = checks.until("a message", lambda: listener.find("heard"))
    assert heard.payload["event"]["user"] == ALICE, heard.payload
    assert heard.payload["authorizations"][0]["user_id"] == BOT, heard.payload
    checks.alice.chat_postMessage(channel=GENERAL, text="remember")
    first = checks.until("the message", lambda: listener.find("remember"))
    again = checks.until("the same again", lambda: listener.find("remember", retried=True))
    assert (again.envelope_id, again.retry_reason) == (first.envelope_id, "timeout")
    # The connection is lost; the SDK opens another one, on which it comes once more.
    with listener.lock:
        listener.heard.clear()
    remembers.append(True)
    listener.client.connect_to_new_endpoint(force=True)
    last = checks.until("the message on another connection", lambda: listener.find("remember"))
    assert last.payload["event_id"] == first.payload["event_id"]
    checks.alice.chat_postMessage(channel=GENERAL, text="after it")
    checks.until("what comes after", lambda: listener.find("after it"))
    listener.client.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--patience", type=float, default=20)
    arguments = parser.parse_args()
    checks = Checks(arguments.url.rstrip("/"), arguments.patience)
    checks.until("the tables of a new server", checks.is_ready)
    for part in [who_calls, messages, pages, conversations, people, changes, sockets]:
        part(checks)
        print(f"  ok  {part.__name__}", flush=True)
    assert Client.calls >= CALLS_MIN, f"{Client.calls} calls"
    print(f"  ok  {Client.calls} calls", flush=True)


if __name__ == "__main__":
    main()
    sys.exit(0)
