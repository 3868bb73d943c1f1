"""The walkthrough of the demo: what to try, and what must come back.

    demo.py wait PID               waits until the Envoy with that process id serves
    demo.py show                   prints the walkthrough
    demo.py show read-only         prints the part of it that is for the demo with the switch `read-only` on
    demo.py check LOG              walks through the part before that; LOG is the file with Envoy's output
    demo.py check LOG read-only    walks through that part

What is printed, what is checked and what docs/walkthrough.md shows all come from STEPS, so they cannot differ.
"""

import collections
import http.client
import os
import re
import sys
import time

SHOP = ("127.0.0.1", 10000)
ADMIN = ("127.0.0.1", 9901)


class Curl:
    """One request, sent once or for each number of `numbers`, and what curl is asked to print of each response.

    A `$i` in `path` is that number. `wait` are seconds before the first request, `pause` those after each. `show` is
    "status", "body", "all", "tally", which counts the statuses, or "reasons", which counts the reasons. In what is
    expected, `~60` is a number that counts down from 60, and `50+` is one of at least 50; of "all", lines may be left
    out.
    """

    def __init__(self, method, path, headers=(), numbers=None, wait=0, pause=0, show="all"):
        self.method, self.path, self.headers, self.show = method, path, dict(headers), show
        self.numbers, self.wait, self.pause = numbers, wait, pause
        self.exact = show != "all"

    def command(self):
        how = {
            "status": "-s -o /dev/null -w '%{http_code} '",
            "tally": r"-s -o /dev/null -w '%{http_code}\n'",
            "body": "-s",
            "all": "-si",
            "reasons": "-si",
        }[self.show]
        method = "" if self.method == "GET" else f" -X {self.method}"
        headers = "".join(f" -H '{name}: {value}'" for name, value in self.headers.items())
        wait = f"sleep {self.wait}; " if self.wait else ""
        curl = f"curl {how}{method}{headers} {SHOP[0]}:{SHOP[1]}{self.path}"
        if not self.numbers:
            return wait + curl
        first, last = self.numbers[0], self.numbers[-1]
        numbers = f"seq {last}" if first == 1 else f"seq {first} {last}"
        each = {"body": "; echo", "reasons": " | grep x-outrigger-reason"}.get(self.show, "")
        pause = f"; sleep {self.pause}" if self.pause else ""
        counted = " | sort | uniq -c"
        all_of_them = {"status": "; echo", "tally": counted, "reasons": counted}.get(self.show, "")
        return f"{wait}for i in $({numbers}); do {curl}{each}{pause}; done{all_of_them}"

    def run(self):
        time.sleep(self.wait)
        answers = []
        for number in self.numbers or [None]:
            answers.append(send(SHOP, self.method, self.path.replace("$i", str(number)), self.headers))
            time.sleep(self.pause)
        statuses = [str(response.status) for response, _ in answers]
        if self.show == "status":
            return [" ".join(statuses)]
        if self.show == "tally":
            return tally(statuses)
        if self.show == "reasons":
            reasons = [response.getheader("x-outrigger-reason") for response, _ in answers]
            return tally(f"x-outrigger-reason: {reason}" for reason in reasons if reason)
        if self.show == "body":
            return [body for _, body in answers]
        lines = []
        for response, body in answers:
            lines.append(f"HTTP/1.1 {response.status} {response.reason}")
            lines += [f"{name}: {value}" for name, value in response.getheaders()]
            lines += ["", body]
        return lines


class Reviews:
    """Lets the service of the reviews fail that share of its requests, in percent."""

    exact = True

    def __init__(self, down):
        self.path = f"/runtime_modify?reviews.down={down}"

    def command(self):
        return f"curl -s -X POST '{ADMIN[0]}:{ADMIN[1]}{self.path}'"

    def run(self):
        return send(ADMIN, "POST", self.path, {})[1].splitlines()


class Metrics:
    """Metrics of the filter whose names begin so, as Prometheus sees them."""

    exact = True

    def __init__(self, name):
        self.name = name

    def command(self):
        return f"curl -s {ADMIN[0]}:{ADMIN[1]}/stats/prometheus | grep ^{self.name}"

    def run(self):
        _, body = send(ADMIN, "GET", "/stats/prometheus", {})
        return [line for line in body.splitlines() if line.startswith(self.name)]


class Counters(Metrics):
    """Counters of the filter that have counted anything. All are there from the configuration on, at 0."""

    def command(self):
        return f"curl -s {ADMIN[0]}:{ADMIN[1]}/stats/prometheus | grep '^{self.name}.* [1-9]'"

    def run(self):
        return [line for line in super().run() if not line.endswith(" 0")]


class ReadOnly:
    """Starts the demo with the switch `read-only` on. For the check, build.sh has done so."""

    exact = True

    def command(self):
        return "./build.sh demo --read-only"

    def run(self):
        return []


class Log:
    """The access log, which `./build.sh demo` prints; for the check, the file that it goes to."""

    exact = False
    file = None

    def command(self):
        return None

    def run(self):
        time.sleep(0.5)  # Envoy writes it every 100 ms.
        with open(Log.file) as log:
            return log.read().splitlines()


STEPS = [
    (
        "Each user may place five orders at once, and then one every ten minutes. Ada tries seven:",
        Curl("POST", "/orders", {"x-user-id": "ada"}, numbers=range(1, 8), show="status"),
        ["201 201 201 201 201 429 429"],
    ),
    (
        "What the refusal says, in a form that programs understand:",
        Curl("POST", "/orders", {"x-user-id": "ada"}),
        [
            "HTTP/1.1 429 Too Many Requests",
            "content-type: application/problem+json",
            "retry-after: ~600",
            "x-envoy-ratelimited: true",
            'ratelimit-policy: "orders-per-user";q=5;w=3000',
            'ratelimit: "orders-per-user";r=0;t=~600',
            "x-outrigger-reason: limit/orders-per-user",
            "",
            '{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded",'
            '"title":"Request cannot be satisfied as assigned quota has been exceeded",'
            '"status":429,"violated-policies":["orders-per-user"]}',
        ],
    ),
    (
        "A gRPC client is told in its own way (8 is RESOURCE_EXHAUSTED) and is asked not to retry:",
        Curl("POST", "/orders", {"x-user-id": "ada", "content-type": "application/grpc"}),
        [
            "HTTP/1.1 200 OK",
            "x-outrigger-reason: limit/orders-per-user",
            "grpc-retry-pushback-ms: -1",
            "grpc-status: 8",
            "grpc-message: refused by limit/orders-per-user",
        ],
    ),
    (
        "Ada's limit is hers alone. Bob can order:",
        Curl("POST", "/orders", {"x-user-id": "bob"}, show="body"),
        ['{"order":"accepted"}'],
    ),
    (
        "Reviews are decoration (tier P3). Beyond three of a page, a prepared answer takes their place, and no user sees an "
        "error:",
        Curl("GET", "/reviews/1", numbers=range(1, 5), show="body"),
        ['{"reviews":["It boils water."]}'] * 3 + ['{"reviews":[]}'],
    ),
    (
        "A limit on browsing is being tried out (`enforced: false`): nobody is refused,",
        Curl("GET", "/products", numbers=range(1, 6), show="status"),
        ["200 200 200 200 200"],
    ),
    (
        "but it is counted what it would refuse, next to the real refusals:",
        Counters("outrigger_refusals_total"),
        [
            'outrigger_refusals_total{reason="limit/browse-per-address",enforced="false"} 3',
            'outrigger_refusals_total{reason="limit/orders-per-user",enforced="true"} 4',
            'outrigger_refusals_total{reason="limit/reviews",enforced="true"} 1',
        ],
    ),
    (
        "Reviews come from a service of their own. While it works, a page of them is kept as it passes by:",
        Curl("GET", "/reviews/2", show="body"),
        ['{"reviews":["It boils water."]}'],
    ),
    (
        "Kill that service: it answers every request with 503 from now on.",
        Reviews(down=100),
        ["OK"],
    ),
    (
        "Who asks for that page gets the one that was kept. Its age and its state are told:",
        Curl("GET", "/reviews/2", wait=2),
        [
            "HTTP/1.1 200 OK",
            "age: 2+",
            "cache-status: outrigger; fwd=stale; fwd-status=503; ttl=-1+; detail=stale-if-error",
            "x-outrigger-reason: failure/reviews",
            "",
            '{"reviews":["It boils water."]}',
        ],
    ),
    (
        "For a page that nobody has asked for before there is the prepared answer:",
        Curl("GET", "/reviews/3"),
        [
            "HTTP/1.1 200 OK",
            "content-type: application/json",
            "x-outrigger-reason: failure/reviews",
            "",
            '{"reviews":[]}',
        ],
    ),
    (
        "The prepared answer is for reading. Whoever writes a review is told that it was lost:",
        Curl("POST", "/reviews/4"),
        [
            "HTTP/1.1 503 Service Unavailable",
            "",
            '{"error":"the reviews are down"}',
        ],
    ),
    (
        "After five failures in a row the breaker is open: the same answers, but the service is not asked any more.",
        Curl("GET", "/reviews/$i", numbers=range(11, 17), pause=0.3, show="reasons"),
        ["1+ x-outrigger-reason: breaker/reviews", "~5 x-outrigger-reason: failure/reviews"],
    ),
    (
        "The metric to watch: 0 is closed, 1 half-open, 2 ramp, 3 open.",
        Metrics("outrigger_breaker_state{"),
        ['outrigger_breaker_state{breaker="reviews"} 3'],
    ),
    (
        "Heal the service.",
        Reviews(down=0),
        ["OK"],
    ),
    (
        "Once the breaker's time is over, five requests go through as probes. All of them succeed:",
        Curl("GET", "/reviews/$i", numbers=range(21, 26), wait=5, show="body"),
        ['{"reviews":["It boils water."]}'] * 5,
    ),
    (
        "Then traffic comes back in steps, 10, 25 and 50 %, for two seconds each. After that, it is as before:",
        Curl("GET", "/reviews/4", wait=7, show="body"),
        ['{"reviews":["It boils water."]}'],
    ),
    (
        "What the breaker went through, and why:",
        Counters("outrigger_breaker_transitions_total"),
        [
            'outrigger_breaker_transitions_total{cause="ramp_over",breaker="reviews",to="closed"} 1+',
            'outrigger_breaker_transitions_total{cause="open_over",breaker="reviews",to="half_open"} 1+',
            'outrigger_breaker_transitions_total{cause="consecutive_failures",breaker="reviews",to="open"} 1+',
            'outrigger_breaker_transitions_total{cause="probes_succeeded",breaker="reviews",to="ramp"} 1+',
        ],
    ),
    (
        "The access log names operation, tier and reason of each request, and the status that was replaced, or why the "
        "breaker is open:",
        Log(),
        [
            "POST /orders 201 via_upstream operation=place-order tier=P0 reason=- shadow=- detail=-",
            "POST /orders 429 outrigger_limit_orders-per-user operation=place-order tier=P0"
            " reason=limit/orders-per-user shadow=- detail=-",
            "GET /reviews/1 200 outrigger_limit_reviews operation=reviews tier=P3"
            " reason=limit/reviews shadow=- detail=-",
            "GET /reviews/2 200 outrigger_failure_reviews operation=reviews tier=P3"
            " reason=failure/reviews shadow=- detail=503",
            "GET /reviews/16 200 outrigger_breaker_reviews operation=reviews tier=P3"
            " reason=breaker/reviews shadow=- detail=consecutive_failures",
        ],
    ),
    (
        "The whole shop takes a hundred requests at once, whoever sends them, and then one a second:",
        Curl("GET", "/", numbers=range(1, 201), show="tally"),
        ["50+ 200", "50+ 429"],
    ),
    (
        "A switch is degradation that people decide. In the policy, `read-only` is there and off. Stop the demo and start "
        "it with that switch on:",
        ReadOnly(),
        [],
    ),
    (
        "Nothing can be changed now,",
        Curl("POST", "/orders", {"x-user-id": "ada"}),
        [
            "HTTP/1.1 503 Service Unavailable",
            "content-type: application/json",
            "retry-after: 120",
            "x-envoy-ratelimited: true",
            "x-outrigger-reason: switch/read-only",
            "",
            '{"error":"nothing can be changed for a moment","reason":"switch/read-only"}',
        ],
    ),
    (
        "but everything can be looked at:",
        Curl("GET", "/products", show="body"),
        ['{"products":["kettle","lamp"]}'],
    ),
    (
        "Nobody forgets that it is on:",
        Metrics("outrigger_switch_on"),
        ['outrigger_switch_on{switch="read-only"} 1'],
    ),
]

# The demo runs twice, each time with the policy that its part of the steps is about.
AS_IS, READ_ONLY = "as-is", "read-only"
RESTART = next(index for index, (_, what, _) in enumerate(STEPS) if isinstance(what, ReadOnly))
PARTS = {AS_IS: range(RESTART), READ_ONLY: range(RESTART + 1, len(STEPS))}


def show(steps):
    """These steps of the walkthrough as text."""
    text = []
    for index in steps:
        title, what, expected = STEPS[index]
        text += [f"{index + 1}. {title}", ""]
        if what.command():
            text += [f"   {what.command()}", ""]
        if expected:
            text += [*(f"       {line}".rstrip() for line in expected), ""]
    return "\n".join(text)


def check(log, part):
    """Does what the walkthrough says; whether everything came back as promised."""
    Log.file = log
    good = True
    for index in PARTS[part]:
        title, what, expected = STEPS[index]
        lines = what.run()
        missing = first_missing(expected, lines, what.exact)
        good &= report(missing is None, f"{index + 1}. {title}")
        if missing is not None:
            print(f"      wanted: {missing}", "      but got:", *(f"        {line}" for line in lines[-25:]), sep="\n")
    if part == AS_IS:
        with open(os.path.join(os.path.dirname(__file__), "..", "docs", "walkthrough.md")) as page:
            shown = show(range(len(STEPS))).strip() in page.read()
        good &= report(shown, "docs/walkthrough.md shows this walkthrough as ./build.sh demo prints it")
    return good


def tally(words):
    """How often each word occurs, as `sort | uniq -c` says it."""
    return [f"{count} {word}" for word, count in sorted(collections.Counter(words).items())]


def first_missing(expected, lines, exact):
    """The first expected line that did not come, in order; with `exact`, nothing else may have come either."""
    rest = iter(lines)
    for wanted in expected:
        if not any(matches(wanted, line) for line in rest):
            return wanted
    return "nothing more" if exact and next(rest, None) is not None else None


def matches(wanted, line):
    """Whether this line is the wanted one, with `~60` for 1 to 60 and `50+` for 50 or more."""
    bound = r"~(\d+)|(\d+)\+"
    bounds = [(1, int(most)) if most else (int(least), sys.maxsize) for most, least in re.findall(bound, wanted)]
    literals = re.split(bound, wanted)[::3]
    found = re.fullmatch(r"(\d+)".join(map(re.escape, literals)), line)
    return bool(found) and all(low <= int(n) <= high for n, (low, high) in zip(found.groups(), bounds))


def report(good, what):
    print("OK   " if good else "FAIL ", what, flush=True)
    return good


def send(where, method, path, headers):
    connection = http.client.HTTPConnection(*where, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read().decode()
    finally:
        connection.close()


def wait(pid):
    """Whether the Envoy of that process id serves within a minute."""
    for _ in range(600):
        try:
            os.kill(pid, 0)
            if send(ADMIN, "GET", "/ready", {})[0].status == 200:
                return True
        except ProcessLookupError:
            return False
        except OSError:
            pass
        time.sleep(0.1)
    return False


if __name__ == "__main__":
    command, *arguments = sys.argv[1:] or ["help"]
    if command == "wait" and len(arguments) == 1:
        sys.exit(not wait(int(arguments[0])))
    if command == "show" and not arguments:
        print(show(range(len(STEPS))))
    elif command == "show" and arguments == [READ_ONLY]:
        print(show(PARTS[READ_ONLY]))
    elif command == "check" and len(arguments) == 1:
        sys.exit(not check(arguments[0], AS_IS))
    elif command == "check" and arguments[1:] == [READ_ONLY]:
        sys.exit(not check(arguments[0], READ_ONLY))
    else:
        sys.exit(__doc__)
