"""The benchmarks read, reckon and report rightly; without wrk, Go or any peer."""

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path
from threading import Thread
from threading import enumerate as enumerate_threads
from types import SimpleNamespace

import pytest

from benchmarks import against_go, against_peers, load, report, rig, subjects
from benchmarks import server as servers
from benchmarks.load import LoadFailed, Request, Sample
from benchmarks.report import Comparison, Goal
from benchmarks.storm import Storm, storm_table
from config import processes

PEERS = Path(against_peers.__file__).parent / "peers"
SAID_BY_WRK = """Running 1s test @ http://127.0.0.1:18777/x
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.84ms    3.94ms  33.15ms   90.49%
    Req/Sec     1.26k   365.62     1.88k    72.73%
  Latency Distribution
     50%  849.00us
     75%    4.33ms
     90%    7.55ms
     99%    1.61s
  1376 requests in 1.10s, 271.44KB read
Requests/sec:   1250.28
Transfer/sec:    246.64KB
""".replace("1.61s", "1.61s ")
"""As wrk prints it, blanks behind short units included."""


def sample(rate: float, p99: float = 0.01) -> Sample:
    return Sample(rate, p99 / 2, p99)


def comparison(ours: list[Sample], theirs: list[Sample], goal: Goal) -> Comparison:
    return Comparison("read", "Go", ours, theirs, goal)


def test_what_wrk_prints_is_read_in_seconds():
    found = load.parsed(SAID_BY_WRK)

    assert (found.rate, found.p50, found.p99) == pytest.approx((1250.28, 849e-6, 1.61))


@pytest.mark.parametrize(
    "line",
    [
        "  Non-2xx or 3xx responses: 1",
        "  Socket errors: connect 0, read 0, write 0, timeout 3",
    ],
    ids=["status", "socket"],
)
def test_a_single_request_that_failed_fails_the_measurement(line):
    head, tail = SAID_BY_WRK.split("Requests/sec", 1)

    with pytest.raises(LoadFailed, match=re.escape(line.strip())):
        load.parsed(f"{head}{line}\nRequests/sec{tail}")


@pytest.mark.parametrize(
    "said",
    ["", SAID_BY_WRK.replace("1250.28", "0.00"), SAID_BY_WRK.replace("99%  ", "98%  ")],
    ids=str.__len__,
)
def test_what_says_nothing_of_use_fails_the_measurement(said):
    with pytest.raises(LoadFailed):
        load.parsed(said)


def test_the_median_of_the_rounds_ratios_counts_not_the_ratio_of_medians():
    found = comparison(
        [sample(100), sample(90), sample(300)], [sample(50), sample(100), sample(100)], Goal(2.0)
    )

    assert found.ratios == [2.0, 0.9, 3.0]
    assert found.ratio == 2.0
    assert found.met


@pytest.mark.parametrize(
    ("ours", "goal", "met"),
    [
        (sample(99.6), Goal(1.0), True),
        (sample(99.4), Goal(1.0), False),
        (sample(100, p99=0.010), Goal(1.0, p99=1.0), True),
        (sample(100, p99=0.011), Goal(1.0, p99=1.0), False),
        (sample(1, p99=9), Goal(), True),
    ],
    ids=["rounded up", "too slow", "both met", "too late", "no goal"],
)
def test_a_goal_is_met_by_what_is_printed(ours, goal, met):
    found = comparison([ours], [sample(100)], goal)

    assert found.met is met
    assert found.row[-1] == ("" if goal == Goal() else report.passed(met))


def test_each_cell_of_a_row_has_a_head():
    table = report.comparison_table([comparison([sample(1234.5)], [sample(15.04)], Goal(1.0, p99=1.0))])

    head, _, row = [line.split(" | ") for line in table.splitlines()]
    assert len(head) == len(row)
    assert row[1:5] == ["1,234", "15.0", "82.08", "**82.08**"]


def test_a_storm_is_judged_by_what_is_left_of_idle_and_by_the_others_p99(capsys):
    ours = Storm("Ours", [sample(100), sample(100)], [sample(60, 0.02), sample(50, 0.03)], [5.0, 7.0])
    go = Storm("Go", [sample(200), sample(200)], [sample(1, 0.1), sample(1, 0.1)], [9.0, 9.0])

    assert ours.kept == 0.55
    assert ours.judged_against(go) == [True, True]
    assert go.judged_against(ours) == [False, False]
    assert capsys.readouterr().out.count("PASS") == 2
    assert "| Ours | 100 | 55.0 | **0.55** |" in storm_table([ours, go])


def test_a_table_takes_the_place_of_the_one_before_and_of_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "a\n<!-- table: go -->\nold\nold\n<!-- end -->\nb\n<!-- table: peers -->\n<!-- end -->\nc\n"
    )

    report.write_table("go", r"| \1 |", page)
    report.write_table("peers", "| new |", page)

    assert page.read_text() == (
        "a\n<!-- table: go -->\n| \\1 |\n<!-- end -->\nb\n<!-- table: peers -->\n| new |\n<!-- end -->\nc\n"
    )


def test_a_table_that_the_page_has_no_place_for_is_told_of(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- table: go -->\n<!-- end -->\n")

    with pytest.raises(LookupError, match="peers"):
        report.write_table("peers", "", page)


@pytest.mark.parametrize("name", ["go", "go-two-cores", "storm", "peers", "scale", "server"])
def test_the_page_has_a_place_for_each_table(name):
    assert report.PERFORMANCE.read_text().count(f"<!-- table: {name} -->\n") == 1


def test_short_runs_can_be_asked_for():
    options = against_go.options_of(["--only", "hit", "storm", "--rounds", "1", "--cores", "1", "--no-write"])
    assert (options.only, options.rounds, options.cores, options.write) == (["hit", "storm"], 1, [1], False)
    assert set(against_go.options_of([]).only) == {*against_go.GOALS, "storm"}
    assert against_peers.options_of(["--peers", "djoser"]).peers == ["djoser"]


@pytest.mark.parametrize("bench", [against_go, against_peers, servers], ids=lambda bench: bench.__name__)
def test_only_what_is_whole_goes_into_the_page(bench, monkeypatch):
    for name in subjects.PASSED_ON:
        monkeypatch.delenv(name, raising=False)

    assert bench.options_of([]).write is True
    assert bench.options_of(["--no-write"]).write is False


@pytest.mark.parametrize("bench", [against_go, against_peers], ids=lambda bench: bench.__name__)
def test_a_trial_of_a_setting_says_so_and_stays_out_of_the_page(bench, monkeypatch):
    monkeypatch.setattr(report, "server_versions", lambda *urls: "databases")
    monkeypatch.setattr(report, "wrk_version", lambda: "wrk")
    monkeypatch.setattr(against_go, "go_versions", lambda: "Go")
    for name in subjects.PASSED_ON:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FAST_READS", "off")
    monkeypatch.setenv("WEB_THREADS", "8")
    options = bench.options_of([])
    stage = SimpleNamespace(postgres=SimpleNamespace(url=""), redis=SimpleNamespace(url=""))

    where = bench.environment(stage, {against_go: 1}.get(bench, []), options)

    assert where.endswith("A trial of WEB_THREADS=8, FAST_READS=off.")
    assert options.write is False


def test_the_servers_tables_go_into_the_page_as_one_text(monkeypatch):
    told = {}
    nothing, ours = servers.TITLES.values()
    monkeypatch.setattr(servers, "environment", lambda stage, options: "where")
    monkeypatch.setattr(servers, "measured", lambda stage, name, options: f"| {name} |")
    monkeypatch.setattr(report, "write_table", told.__setitem__)

    servers.compare(None, servers.options_of([]))
    assert told == {"server": f"{nothing}\n\n| nothing |\n\n{ours}\n\n| ours |\n\nwhere"}

    told.clear()
    servers.compare(None, servers.options_of(["--no-write"]))
    servers.compare(None, servers.options_of(["--only", "ours"]))
    assert not told


def test_whoever_lacks_a_program_is_told_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "")

    with pytest.raises(rig.CannotMeasure, match=r"go is not installed.* golang-go"):
        rig.program("go")


def test_a_peer_that_cannot_be_had_is_told_of_and_the_others_go_on(monkeypatch, capsys):
    class There:
        name = "there"

        def __init__(self, stage: object) -> None:
            pass

        def install(self) -> None:
            pass

        start = install

    class NotThere(There):
        name = "not there"

        def install(self) -> None:
            raise rig.CannotMeasure("no network")

    monkeypatch.setattr(against_peers, "PEERS", (NotThere, There))

    found = against_peers.started(None, ["there", "not there"])

    assert [peer.name for peer in found] == ["there"]
    assert "not there is not measured: no network" in capsys.readouterr().err


@pytest.fixture
def server() -> Iterator[str]:
    """Answers 201, but 503 to whoever asks for trouble; a GET with its path."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(503 if b"trouble" in body else 201)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.path)))
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def ask(name: str) -> Request:
    return Request("POST", "/", {"name": name})


def test_a_number_of_requests_is_timed_to_the_last_one(server):
    requests = iter([ask(str(number)) for number in range(50)])

    found = load.timed(server, requests, connections=4)

    assert next(requests, None) is None
    assert 0 < found.p50 <= found.p99
    assert found.rate > 0


def test_one_failure_among_timed_requests_fails_all(server):
    with pytest.raises(LoadFailed, match="503"):
        load.timed(server, [ask("a"), ask("trouble"), *repeat(ask("b"), 20)], connections=2)


def test_a_second_client_goes_on_until_the_block_ends(server):
    with load.meanwhile(server, repeat(ask("a")), connections=2) as done:
        assert processes.wait_until(lambda: len(done) >= 10, 30)

    assert not [thread for thread in enumerate_threads() if thread.name.startswith("load")]


def test_a_failure_of_the_second_client_is_not_kept_silent(server):
    with (
        pytest.raises(LoadFailed, match="503"),
        load.meanwhile(server, repeat(ask("trouble")), connections=2),
    ):
        pass


def test_an_answer_about_somebody_else_is_no_reason_to_load(server, monkeypatch):
    monkeypatch.setenv("PATH", "")  # whoever goes on misses wrk

    def read(named):
        load.wrk(f"{server}/ann@example.com", header="X: 1", seconds=1, connections=1, named=named)

    with pytest.raises(LoadFailed, match=r"does not name bob@example\.com"):
        read("bob@example.com")
    with pytest.raises(rig.CannotMeasure, match="wrk is not installed"):
        read("ann@example.com")


def test_an_answer_tells_a_member_of_its_json(server):
    assert load.answer(server, ask("Ann"))["name"] == "Ann"


@pytest.mark.parametrize("peer", ["djoser", "fastapi_users"])
def test_a_peers_packages_are_pinned_by_hash_and_name_no_address(peer):
    text = (PEERS / peer / "requirements.txt").read_text()
    pinned = re.findall(r"^[\w.-]+==\S+[^\n]*\\\n    --hash=sha256:", text, re.MULTILINE)

    assert len(pinned) == len(re.findall(r"^\w", text, re.MULTILINE)) > 10
    assert "://" not in text


def test_a_peers_node_packages_are_pinned_and_no_lock_names_addresses():
    wanted = json.loads((PEERS / "better_auth" / "package.json").read_text())["dependencies"]

    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    assert not list(PEERS.rglob("package-lock.json"))
