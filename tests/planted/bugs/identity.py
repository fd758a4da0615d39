"""Who may do what."""

from __future__ import annotations

from tests.planted.bugs.bug import Bug

BUGS = (
    Bug(
        "identity",
        "a machine reaches what is another's",
        "reconciler/core/permission.py",
        "return thing.kind == kind and verb in verbs and bool(identity.name) and thing.name == identity.name",
        "return thing.kind == kind and verb in verbs and bool(identity.name)",
        "tests/attacks/test_machines.py::test_a_machine_reads_and_reports_for_itself_only_and_plays_no_other_role",
    ),
    Bug(
        "identity",
        "a join token works twice",
        "reconciler/core/projections/identities.py",
        'return {**token, "state": "used"}',
        "return token",
        "tests/attacks/test_machines.py::test_a_token_that_was_used_is_refused_and_is_an_alarm",
    ),
    Bug(
        "identity",
        "a request may ask for another name",
        "reconciler/certificates/signing.py",
        "if asked != [[uri]] or len(extensions) != 1:",
        "if len(extensions) != 1:",
        "tests/attacks/test_machines.py::test_a_request_for_another_name_gets_no_certificate_and_spends_no_token",
    ),
    Bug(
        "identity",
        "a revoked machine keeps its open stream",
        "reconciler/server/standing.py",
        "                    each.transport.abort()",
        "                    pass",
        "tests/attacks/test_machines.py::test_a_revoked_machine_loses_its_open_stream_and_everything_else",
    ),
    Bug(
        "identity",
        "a former machine goes on under the name of the new one",
        "reconciler/server/standing.py",
        'generation is not None and generation < row["generation"]',
        "False",
        "tests/attacks/test_machines.py::test_a_revoked_machine_loses_its_open_stream_and_everything_else",
    ),
    Bug(
        "identity",
        "the listener speaks TLS 1.2",
        "reconciler/server/tls.py",
        "context.minimum_version = ssl.TLSVersion.TLSv1_3",
        "context.minimum_version = ssl.TLSVersion.TLSv1_2",
        "tests/attacks/test_machines.py::test_tls_below_1_3_is_turned_away",
    ),
    Bug(
        "identity",
        "an expired certificate is renewed with any key",
        "reconciler/server/machines.py",
        "if authority.key_id(asked.csr, former.kind, former.name) != former.key_id:",
        "if False:",
        "tests/attacks/test_machines.py::test_an_expired_certificate_is_renewed_with_its_own_key_only",
    ),
    Bug(
        "identity",
        "a machine trusts whatever roots it is shown",
        "kit/joining.py",
        "if hashlib.sha256(bundle.encode()).hexdigest() != token.fingerprint:",
        "if False:",
        "tests/attacks/test_machines.py::test_a_false_controller_learns_no_token",
    ),
    Bug(
        "identity",
        "a token may more than its scope",
        "reconciler/core/permission.py",
        "        wanted in scope.verbs & SCOPED_VERBS\n        and ",
        "        ",
        "tests/attacks/test_access_tokens.py::test_a_token_does_what_its_scope_says_and_is_kept_as_a_digest",
    ),
    Bug(
        "identity",
        "a token makes one that may more",
        "reconciler/server/access_tokens.py",
        "if wider or mine.org",
        "if mine.org",
        "tests/attacks/test_access_tokens.py::test_no_token_makes_one_that_may_more",
    ),
)
