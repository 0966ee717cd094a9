#!/usr/bin/python3
"""A complete agent for direct mail delivery in Python, written from the .proto files and docs/agent-protocol.md alone.

    agent.py --name out9 --state DIR --controller HOST:PORT --source ADDRESS --helo NAME --dns HOST:PORT [--join-file PATH]

The control stream is one thread, each site that has work another. What it leaves out is in README.md.
"""

import argparse
import ipaddress
import os
import queue
import signal
import sys
import threading
import time
import traceback

import grpc

import enrollment
from dd.v1 import delivery_pb2 as pb
from handoff import Ended, LeaseExpired, Session
from journal import Journal, key

SLOTS = 16
# A session without work ends after this many seconds.
IDLE_S = 5
# Attached again within these, whatever ended the stream.
REATTACH_S = 1
# Whether all is done is looked at so often.
LOOK_S = 0.1
CROSSING_S = 1


def boottime():
    """Goes on while the machine sleeps, as leases do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ContentCut(Exception):
    """The content did not come whole."""


class Leases:
    """Which deliveries this agent holds, and until when. An expired lease is never renewed."""

    def __init__(self):
        self._mutex = threading.Lock()
        self._until = {}
        self._renewed, self._lasts = 0.0, 0.0

    def take(self, lease):
        with self._mutex:
            self._until[key(lease)] = (lease, self._renewed + self._lasts)

    def welcome(self, going_on, sent, lasts):
        with self._mutex:
            self._renewed, self._lasts = sent, lasts
            named = {key(lease) for lease in going_on}
            self._until = {k: (lease, sent + lasts) for k, (lease, _) in self._until.items() if k in named}

    def renew(self, sent):
        """Counted from when the beat was sent that was answered."""
        with self._mutex:
            self._renewed, now = sent, boottime()
            for k, (lease, until) in self._until.items():
                if until > now:
                    self._until[k] = (lease, sent + self._lasts)

    def held(self, lease):
        with self._mutex:
            return key(lease) in self._until and self._until[key(lease)][1] > boottime()

    def end(self, lease):
        with self._mutex:
            self._until.pop(key(lease), None)

    def __len__(self):
        with self._mutex:
            return len(self._until)

    def in_hand(self):
        with self._mutex:
            return [lease for lease, _ in self._until.values()]


class Agent:
    def __init__(self, options):
        self.options = options
        self.allow, self.forbidden = options.allow, []
        self.dns, self.source, self.helo = options.dns, options.source, options.helo
        self.journal = Journal(options.state)
        self.leases = Leases()
        enrollment.join(options.state, options.controller, options.join_file)
        self._channel, self._draining = None, threading.Event()
        self._up = queue.Queue()
        self._plans, self._lanes = {}, {}
        self._beats, self._sessions = {}, 0
        self._mutex = threading.Lock()

    def run(self):
        signal.signal(signal.SIGTERM, lambda *_: self._draining.set())
        threading.Thread(target=self._drain, daemon=True).start()
        while not (self._draining.is_set() and self._is_done()):
            self._up = queue.Queue()
            self._plans.clear()
            # By a certificate that may be another one by now.
            self._channel = enrollment.channel(self.options.state, self.options.controller)
            renewing = threading.Thread(target=self._renew, args=(self._channel,), daemon=True)
            renewing.start()
            try:
                self._attach()
            except grpc.RpcError as error:
                print(f"the stream has ended: {error.code().name} {error.details()}", file=sys.stderr)
            self._up.put(None)
            self._channel.close()
            time.sleep(REATTACH_S)

    def _attach(self):
        attach = self._channel.stream_stream(
            "/dd.v1.Delivery/Attach",
            request_serializer=pb.AgentEvent.SerializeToString,
            response_deserializer=pb.Order.FromString,
        )
        hello_sent = boottime()
        for order in attach(self._events(self._up)):
            self._take(order, hello_sent)

    def _renew(self, channel):
        """In good time, on the connection that is open; nothing else waits for it."""
        while channel is self._channel:
            time.sleep(min(enrollment.renew_in(self.options.state), LOOK_S * 10))
            if enrollment.renew_in(self.options.state) > 0:
                continue
            try:
                enrollment.renew(self.options.state, channel)
            except (grpc.RpcError, ValueError) as error:
                print(f"the certificate is not renewed: {error}", file=sys.stderr)
                time.sleep(300)

    def _is_done(self):
        return len(self.leases) == 0 and not self.journal.entries()

    def _drain(self):
        """Ends what is in hand, waits for the acknowledgements, and ends our half of the stream."""
        self._draining.wait()
        self.tell(draining=pb.Draining())
        with self._mutex:
            lanes = list(self._lanes.values())
        for lane in lanes:
            lane.close()
        # What the controller had assigned before it read that has to come back to it.
        time.sleep(CROSSING_S)
        while not self._is_done():
            time.sleep(LOOK_S)
        self._up.put(None)

    def tell(self, **event):
        self._up.put(pb.AgentEvent(**event))

    def _events(self, up):
        yield pb.AgentEvent(hello=self._hello())
        for entry in self.journal.entries():
            yield pb.AgentEvent(journaled=entry)
        yield pb.AgentEvent(hello_end=pb.HelloEnd())
        while (event := up.get()) is not None:
            yield event

    def _hello(self):
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot_id = file.read().strip()
        return pb.Hello(
            name=self.options.name,
            version="python-example",
            addresses=[self.source],
            kinds=["smtp"],
            slots=SLOTS,
            probes=SLOTS,
            boot_id=boot_id,
            work_in_hand=self.leases.in_hand(),
        )

    def _take(self, order, hello_sent):
        kind = order.WhichOneof("order")
        if kind == "welcome":
            self._welcome(order.welcome, hello_sent)
        elif kind == "route_plan":
            self._plans[order.route_plan.site] = order.route_plan
        elif kind == "assignment":
            self._assigned(order.assignment)
        elif kind == "beat_answer":
            sent = self._beats.pop(order.beat_answer.number, None)
            if sent is not None:
                self.leases.renew(sent)
        elif kind == "acknowledged":
            self.journal.acknowledged(order.acknowledged.lease)
        elif kind == "check":
            threading.Thread(target=self._check, args=(order.check,), daemon=True).start()
        elif kind == "forbidden_networks":
            self.forbidden = order.forbidden_networks.networks
        elif kind == "close_site":
            self._plans.pop(order.close_site.site, None)
            if lane := self._lanes.get(order.close_site.site):
                lane.close()

    def _welcome(self, welcome, hello_sent):
        self.leases.welcome(welcome.going_on, hello_sent, welcome.lease_ms / 1000)
        self.forbidden = welcome.forbidden_networks
        beating = threading.Thread(target=self._beat, args=(self._up, welcome.beat_ms / 1000), daemon=True)
        beating.start()

    def _beat(self, up, pause):
        number = 0
        while up is self._up:
            number += 1
            self._beats[number] = boottime()
            up.put(pb.AgentEvent(beat=pb.Beat(number=number)))
            time.sleep(pause)

    def _assigned(self, assignment):
        if self._draining.is_set():
            return self.give_back(assignment.lease, pb.GivenBack.REASON_CLOSING)
        site = assignment.lease.site
        plan = self._plans.get(site)
        if plan is None or plan.version != assignment.site_version:
            return self.give_back(assignment.lease, pb.GivenBack.REASON_STALE_PLAN)
        self.leases.take(assignment.lease)
        with self._mutex:
            lane = self._lanes.get(site)
            if lane is None or not lane.put(plan, assignment):
                lane = self._lanes[site] = self.lane(plan)
                lane.put(plan, assignment)

    def _check(self, check):
        """Looks at every host as an attempt would, and hands nothing over."""
        hosts = []
        for host in check.plan.hosts:
            found = pb.HostCheck(host=f"{host.host}:{host.port}")
            plan = pb.RoutePlan()
            plan.CopyFrom(check.plan)
            del plan.hosts[:]
            plan.hosts.append(host)
            try:
                Session.open(plan, self, found.observed, check.tls_expected).quit()
                found.proved, found.sentence = True, "the host has proved to be the site"
            except Ended as ended:
                found.sentence = ended.detail
            result = pb.CheckStep.RESULT_GOOD if found.proved else pb.CheckStep.RESULT_BAD
            found.steps.append(pb.CheckStep(name="proof", result=result, detail=found.sentence))
            hosts.append(found)
        self.tell(checked=pb.Checked(number=check.number, hosts=hosts))

    def lane(self, plan):
        return Lane(self, plan)

    def number_of_session(self):
        with self._mutex:
            self._sessions += 1
            return self._sessions

    def give_back(self, lease, reason):
        self.leases.end(lease)
        self.tell(given_back=pb.GivenBack(lease=lease, reason=reason))

    def content(self, assignment):
        if assignment.HasField("content"):
            return assignment.content
        fetch = self._channel.unary_stream(
            "/dd.v1.Delivery/FetchContent",
            request_serializer=pb.FetchContentRequest.SerializeToString,
            response_deserializer=pb.ContentChunk.FromString,
        )
        chunks = fetch(pb.FetchContentRequest(lease=assignment.lease), timeout=300)
        content = b"".join(chunk.data for chunk in chunks)
        if len(content) != assignment.content_bytes:
            raise ContentCut(f"{len(content)} bytes instead of {assignment.content_bytes}")
        return content


class Lane:
    """The work of one site under one version of its plan, on one session."""

    def __init__(self, agent, plan):
        self._agent, self._plan = agent, plan
        self._work, self._open = queue.Queue(), True
        self._mutex = threading.Lock()
        self._session, self._number, self._accepted, self._answered = None, 0, 0, 0
        self._observed = pb.Observed()
        threading.Thread(target=self._run_or_end, daemon=True).start()

    def put(self, plan, assignment):
        """False where the lane is over, or belongs to another version."""
        with self._mutex:
            if self._open and plan.version == self._plan.version:
                self._work.put(assignment)
                return True
        return False

    def close(self):
        """After the transaction in hand."""
        with self._mutex:
            self._open = False
            self._work.put(None)

    def _run_or_end(self):
        """A mistake of our own ends the process: the journal and the leases settle what was in hand."""
        try:
            self._run()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def _run(self):
        ended = pb.GivenBack.REASON_SESSION_ENDED
        try:
            while (assignment := self._next()) is not None:
                self._attempt(assignment)
            ended = pb.GivenBack.REASON_CLOSING
        except Ended:
            pass
        with self._mutex:
            self._open = False
        self._hang_up()
        while not self._work.empty():
            if (assignment := self._work.get()) is not None:
                self._agent.give_back(assignment.lease, ended)

    def _next(self):
        try:
            return self._work.get(timeout=IDLE_S)
        except queue.Empty:
            self.close()
            return self._work.get()

    def _attempt(self, assignment):
        """One try. Raises `Ended` when the session is over with it, after it has been reported."""
        lease, began = assignment.lease, time.monotonic()
        report = pb.Report(lease=lease)
        dots = []

        def before_dot(numbers):
            if not self._agent.leases.held(lease):
                raise LeaseExpired
            dot = pb.DotSent(lease=lease, recipients=numbers)
            self._agent.journal.dot_sent(dot)
            self._agent.tell(dot_sent=dot)
            dots.append(dot)

        try:
            content = self._agent.content(assignment)
            self._prove(assignment.fresh, assignment.tls_expected)
            results = self._session.transact(assignment.envelope, content, before_dot)
            report.outcome = pb.OUTCOME_TRANSACTED
            report.recipients.extend(results)
            self._accepted += any(r.disposition == pb.DISPOSITION_RELAYED for r in results)
            self._answered += 1
        except LeaseExpired:
            self._session.drop()
            self._agent.give_back(lease, pb.GivenBack.REASON_LEASE_EXPIRED)
            raise Ended(pb.OUTCOME_BROKEN, "a lease expired before its dot")
        except (grpc.RpcError, ValueError, ContentCut) as error:
            report.outcome, report.detail = pb.OUTCOME_AGENT_TROUBLE, f"no content: {error}"
        except Ended as ended:
            report.outcome, report.detail, report.stage = ended.outcome, ended.detail, ended.stage
            report.recipients.extend(ended.results)
            self._answered += bool(ended.results)
            if ended.reply is not None:
                report.reply.CopyFrom(ended.reply)
            self._tell(report, dots, began)
            raise
        self._tell(report, dots, began)

    def _prove(self, fresh, tls_expected):
        if fresh and self._session is not None:
            self._hang_up()
        if self._session is not None:
            return
        self._number = self._agent.number_of_session()
        self._session = Session.open(self._plan, self._agent, self._observed, tls_expected)
        proved = pb.Proved(site=self._plan.site, session=self._number, observed=self._observed)
        self._agent.tell(proved=proved)

    def _tell(self, report, dots, began):
        report.session = self._number
        report.observed.CopyFrom(self._observed)
        report.dot_sent = bool(dots)
        report.total_ms = int((time.monotonic() - began) * 1000)
        report.at_ms = int(time.time() * 1000)
        self._agent.journal.report(report)
        self._agent.leases.end(report.lease)
        self._agent.tell(report=report)

    def _hang_up(self):
        if self._number == 0:
            return
        if self._session is not None:
            self._session.quit()
        closed = pb.SessionClosed(
            site=self._plan.site,
            session=self._number,
            proved=self._session is not None,
            accepted=self._accepted,
            answered=self._answered,
            orderly=self._session is not None,
        )
        self._session, self._number, self._accepted, self._answered = None, 0, 0, 0
        self._agent.tell(session_closed=closed)


def options():
    def endpoint(text):
        host, _, port = text.rpartition(":")
        return host, int(port)

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True)
    parser.add_argument("--state", required=True, help="the state directory: key, certificate, journal")
    parser.add_argument("--controller", required=True, help="HOST:PORT of the control plane")
    parser.add_argument("--source", required=True, help="the outbound address")
    parser.add_argument("--helo", required=True)
    parser.add_argument("--dns", type=endpoint, required=True, help="HOST:PORT of the name server")
    parser.add_argument("--allow", action="append", default=[], type=ipaddress.ip_network, help="a network permitted though it is not public")
    parser.add_argument("--join-file", help="where the token lies, the first time; - is standard input")
    return parser.parse_args()


if __name__ == "__main__":
    Agent(options()).run()
