"""The signature checks that access tokens go through, against Project Wycheproof's known attacks."""

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from jwt.algorithms import get_default_algorithms

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "wycheproof.json").read_bytes())
ALGORITHMS = get_default_algorithms()


@pytest.mark.parametrize("vectors", VECTORS["signatures"], ids=lambda vectors: vectors["file"])
def test_signatures_are_judged_as_wycheproof_judges_them(vectors: dict[str, Any]) -> None:
    wrong, judged = [], {True: 0, False: 0}
    for group in vectors["testGroups"]:
        key = jwt.PyJWK(group["publicKeyJwk"], vectors["alg"]).key
        for case in group["tests"]:
            verdict = ALGORITHMS[vectors["alg"]].verify(
                bytes.fromhex(case["msg"]), key, bytes.fromhex(case["sig"])
            )
            judged[verdict] += 1
            if verdict != (case["result"] == "valid"):
                wrong.append(case)
    assert wrong == []
    assert min(judged.values()) >= 5  # else one verdict for all would do


@pytest.mark.parametrize("group", VECTORS["jws"]["testGroups"], ids=lambda group: group["comment"])
def test_compact_tokens_are_judged_as_wycheproof_judges_them(group: dict[str, Any]) -> None:
    key = jwt.PyJWK(group["public"], group["alg"]).key
    verdicts = {case["comment"]: _is_believed(case["jws"], key, group["alg"]) for case in group["tests"]}
    assert verdicts == {case["comment"]: case["result"] == "valid" for case in group["tests"]}
    assert list(verdicts.values()).count(True) == 1


def test_the_vector_with_a_key_of_its_own_is_a_real_attack() -> None:
    """Whoever believed the key in the header would believe the token."""
    (token,) = [
        case["jws"]
        for case in VECTORS["jws"]["testGroups"][0]["tests"]
        if case["comment"] == "rejectsAttackerProvidedEmbeddedJwk"
    ]
    header = json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    assert _is_believed(token, jwt.PyJWK(header["jwk"]).key, "ES256")


def _is_believed(token: str, key: Any, algorithm: str) -> bool:
    try:
        jwt.api_jws.decode(token, key, [algorithm])
    except jwt.InvalidTokenError:
        return False
    return True
