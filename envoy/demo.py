"""The walkthrough of the demo: what to try, and what must come back.

    demo.py wait PID     waits until the Envoy with that process id serves
    demo.py show         prints the walkthrough
    demo.py check LOG    walks through it; LOG is the file with Envoy's output

What is printed, what is checked and what README.md shows all come from STEPS, so they cannot differ.
"""

import http.client
import os
import re
import sys
import time

SHOP = ("127.0.0.1", 10000)
ADMIN = ("127.0.0.1", 9901)


class Curl:
    """One request, sent `times` times, and what curl is asked to print of each response.

    `show` is "status", "body", "all", or "tally", which counts the statuses. In what is expected, `~60` is a number
    that counts down from 60, and `50+` is one of at least 50; of "all", lines may be left out.
    """

    def __init__(self, method, path, headers=(), times=1, show="all"):
        self.method, self.path, self.headers, self.times, self.show = method, path, dict(headers), times, show
        self.exact = show != "all"

    def command(self):
        how = {
            "status": "-s -o /dev/null -w '%{http_code} '",
            "tally": r"-s -o /dev/null -w '%{http_code}\n'",
            "body": "-s",
            "all": "-si",
        }[self.show]
        method = "" if self.method == "GET" else f" -X {self.method}"
        headers = "".join(f" -H '{name}: {value}'" for name, value in self.headers.items())
        curl = f"curl {how}{method}{headers} {SHOP[0]}:{SHOP[1]}{self.path}"
        if self.times == 1:
            return curl
        each = "; echo" if self.show == "body" else ""
        all_of_them = {"status": "; echo", "tally": " | sort | uniq -c"}.get(self.show, "")
        return f"for i in $(seq {self.times}); do {curl}{each}; done{all_of_them}"

    def run(self):
        answers = [send(SHOP, self.method, self.path, self.headers) for _ in range(self.times)]
        statuses = [str(response.status) for response, _ in answers]
        if self.show == "status":
            return [" ".join(statuses)]
        if self.show == "tally":
            return [f"{statuses.count(status)} {status}" for status in sorted(set(statuses))]
        if self.show == "body":
            return [body for _, body in answers]
        lines = []
        for response, body in answers:
            lines.append(f"HTTP/1.1 {response.status} {response.reason}")
            lines += [f"{name}: {value}" for name, value in response.getheaders()]
            lines += ["", body]
        return lines


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
        Curl("POST", "/orders", {"x-user-id": "ada"}, times=7, show="status"),
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
        "Reviews are decoration (tier P3). Beyond three, a prepared answer takes their place, and no user sees an error:",
        Curl("GET", "/reviews/1", times=4, show="body"),
        ['{"reviews":["It boils water."]}'] * 3 + ['{"reviews":[]}'],
    ),
    (
        "A limit on browsing is being tried out (`enforced: false`): nobody is refused,",
        Curl("GET", "/products", times=5, show="status"),
        ["200 200 200 200 200"],
    ),
    (
        "but it is counted what it would refuse, next to the real refusals:",
        Metrics("outrigger_refusals_total"),
        [
            'outrigger_refusals_total{reason="limit/browse-per-address",enforced="false"} 3',
            'outrigger_refusals_total{reason="limit/orders-per-user",enforced="true"} 4',
            'outrigger_refusals_total{reason="limit/reviews",enforced="true"} 1',
        ],
    ),
    (
        "The access log names operation, tier and reason of each request:",
        Log(),
        [
            "POST /orders 201 via_upstream operation=place-order tier=P0 reason=-",
            "POST /orders 429 outrigger_limit_orders-per-user operation=place-order tier=P0 reason=limit/orders-per-user",
            "GET /reviews/1 200 outrigger_limit_reviews operation=reviews tier=P3 reason=limit/reviews",
        ],
    ),
    (
        "The whole shop takes a hundred requests at once, whoever sends them, and then one a second:",
        Curl("GET", "/", times=200, show="tally"),
        ["50+ 200", "50+ 429"],
    ),
]


def show():
    """The walkthrough as text."""
    text = []
    for number, (title, what, expected) in enumerate(STEPS, 1):
        text.append(f"{number}. {title}")
        if what.command():
            text += ["", f"   {what.command()}"]
        text += ["", *(f"       {line}".rstrip() for line in expected), ""]
    return "\n".join(text)


def check(log):
    """Does what the walkthrough says; whether everything came back as promised."""
    Log.file = log
    good = True
    for number, (title, what, expected) in enumerate(STEPS, 1):
        lines = what.run()
        missing = first_missing(expected, lines, what.exact)
        good &= report(missing is None, f"{number}. {title}")
        if missing is not None:
            print(f"      wanted: {missing}", "      but got:", *(f"        {line}" for line in lines[-25:]), sep="\n")
    with open(os.path.join(os.path.dirname(__file__), "..", "README.md")) as readme:
        good &= report(show().strip() in readme.read(), "README.md shows this walkthrough as ./build.sh demo prints it")
    return good


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
        print(show())
    elif command == "check" and len(arguments) == 1:
        sys.exit(not check(arguments[0]))
    else:
        sys.exit(__doc__)
