"""The parts that need no socket: strings on the wire, sealing, messages, certificates."""

from __future__ import annotations

import stat
from pathlib import Path
from uuid import UUID

import psrpcore
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from pypsrp.serializer import Serializer

from balancer.clock import VirtualClock
from balancer.errors import InputError
from balancer.gateway.simulator.winrm import Authority, wsman
from balancer.gateway.simulator.winrm.outbox import Outbox
from balancer.gateway.simulator.winrm.psrp import clixml_text, output_fragments
from balancer.gateway.simulator.winrm.sealing import seal, unseal
from balancer.gateway.simulator.winrm.wsman import WsmanFault, parse_request

POOL, PIPELINE = UUID(int=1), UUID(int=2)


class Reversing:
    """Stands for a context whose cipher turns bytes around: sealing is about the frame."""

    def wrap_winrm(self, data: bytes) -> object:
        from spnego import WinRMWrapResult  # noqa: PLC0415 -- only here

        return WinRMWrapResult(header=b"sixteen bytes...", data=data[::-1], padding_length=0)

    def unwrap_winrm(self, header: bytes, data: bytes) -> bytes:
        assert header == b"sixteen bytes..."
        return data[::-1]


@given(st.text(st.characters(codec="utf-8")) | st.sampled_from(["_x0041_", "_X_x_", "a_xprod_1"]))
def test_any_text_survives_the_clients_own_reader(text: str) -> None:
    element = f"<S>{clixml_text(text)}</S>"
    assert Serializer().deserialize(element) == text


@given(st.integers(0, 200_000))
def test_a_message_of_any_length_is_put_together_again(length: int) -> None:
    pool = psrpcore.ClientRunspacePool()
    pool.runspace_pool_id = POOL
    pipeline = psrpcore.ClientPowerShell(pool)
    pipeline.pipeline_id = PIPELINE
    pool.pipeline_table = {PIPELINE: pipeline}
    for fragment in output_fragments(POOL, PIPELINE, 7, "x" * length):
        assert len(fragment) <= 32 << 10
        payload = psrpcore.PSRPPayload(fragment, psrpcore.StreamType.default, PIPELINE)
        pool.receive_data(payload)
    event = pool.next_event()
    assert isinstance(event, psrpcore.PipelineOutputEvent)
    assert event.data == "x" * length


@given(st.binary(max_size=200))
def test_sealing_frames_any_bytes(message: bytes) -> None:
    assert unseal(Reversing(), seal(Reversing(), message)) == message


def test_sealed_bytes_may_look_like_the_frame() -> None:
    message = b"--Encrypted Boundary--\r\n"[::-1] * 2
    assert unseal(Reversing(), seal(Reversing(), message)) == message


@pytest.mark.parametrize("body", [b"", b"x", b"--Encrypted Boundary\r\n", b"\x00" * 100])
def test_what_is_not_sealed_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a sealed"):
        unseal(Reversing(), body)


def test_a_message_of_another_length_than_announced_is_refused() -> None:
    body = seal(Reversing(), b"12345").replace(b"Length=5", b"Length=4")
    with pytest.raises(ValueError, match="not as long"):
        unseal(Reversing(), body)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"<x/>",
        b"\xff\xfe",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>",
        b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body/></s:Envelope>',
        b"<x>" + b" " * wsman.MAX_ENVELOPE_BYTES + b"</x>",
    ],
)
def test_what_is_no_request_is_a_fault(message: bytes) -> None:
    with pytest.raises(WsmanFault) as refused:
        parse_request(message)
    assert refused.value.kind is wsman.INVALID_MESSAGE


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT20S", 20.0), ("PT1M0.5S", 60.5), ("P1DT1H", 90000.0), ("", 60.0), ("soon", 60.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_request(request(timeout=text)).timeout_s == seconds


def test_an_outbox_keeps_what_was_not_acknowledged() -> None:
    outbox = Outbox()
    for fragment in (b"a", b"b", b"c"):
        outbox.put(fragment)
    first = outbox.peek("1", 260)
    assert first.items == (b"a", b"b")
    assert outbox.peek("2", 10_000).items == (b"a", b"b", b"c")  # the first was never written
    outbox.acknowledge(first)
    outbox.acknowledge(first)
    last = outbox.peek("3", 1)  # at least one, or a large fragment would never leave
    assert last.items == (b"c",)
    assert outbox.ends_with(last)
    outbox.acknowledge(last)
    assert not outbox
    assert outbox.repeat("3") == last
    assert outbox.repeat("1") is None


def test_a_later_receive_takes_the_turn() -> None:
    outbox = Outbox()
    first = outbox.new_turn()
    second = outbox.new_turn()
    assert (outbox.is_turn(first), outbox.is_turn(second)) == (False, True)


def test_certificates_say_what_clients_check(tmp_path: Path) -> None:
    clock = VirtualClock()
    authority = Authority(tmp_path / "ca.pem", clock)
    before = set(tmp_path.iterdir())
    identity = authority.issue(["hv01", "hv01.example"], ["127.0.0.5", "::1"])
    assert set(tmp_path.iterdir()) == before  # no key is left on disk
    assert "PRIVATE" not in (tmp_path / "ca.pem").read_text("ascii")
    assert "context" not in repr(identity)
    certificate = x509.load_der_x509_certificate(identity.certificate_der)
    ca = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    certificate.verify_directly_issued_by(ca)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hv01", "hv01.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.5", "::1"]
    assert certificate.not_valid_before_utc < clock.now() < certificate.not_valid_after_utc


def test_an_unwritable_ca_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write the certificate authority's file"):
        Authority(tmp_path / "missing" / "ca.pem")
    assert stat.S_ISDIR(tmp_path.stat().st_mode)


def request(timeout: str) -> bytes:
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
        'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
        'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"><s:Header>'
        "<a:Action>x/Get</a:Action><a:MessageID>uuid:1</a:MessageID>"
        f"<w:OperationTimeout>{timeout}</w:OperationTimeout></s:Header><s:Body/></s:Envelope>"
    ).encode()
