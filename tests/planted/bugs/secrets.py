"""A secret opens where it belongs, and nowhere else."""

from __future__ import annotations

from tests.planted.bugs.bug import Bug

COPIED = "tests/attacks/test_copied_secrets.py"

BUGS = (
    Bug(
        "place",
        "a project's key does not depend on its organisation",
        "reconciler/vault/project_keys.py",
        "(_LABEL.encode(), org.encode(), project.encode())",
        "(_LABEL.encode(), project.encode())",
        f"{COPIED}::test_a_copy_does_not_open",
    ),
    Bug(
        "place",
        "a sealed file is bound to nothing",
        "kit/sealed_file.py",
        'canonical_json({"form": FORM, **dataclasses.asdict(binding)})',
        'canonical_json({"form": FORM})',
        "tests/unit/kit/test_sealed_file.py::test_it_opens_for_its_node_instance_app_and_version_alone",
    ),
    Bug(
        "place",
        "the MAC of a document of sops is not looked at",
        "reconciler/vault/sops_values.py",
        "if not hmac.compare_digest(told, mac.hexdigest().upper().encode()):",
        "if False:",
        "tests/unit/vault/test_sops.py::test_what_was_changed_by_hand_is_refused",
    ),
    Bug(
        "place",
        "a document of sops without a place is taken for one of this place",
        "reconciler/vault/opening.py",
        'None if place is None else f"{place}/{key}"',
        "place_of(secret, key)",
        "tests/unit/vault/test_sops.py::test_another_environment_does_not_get_it",
    ),
    Bug(
        "place",
        "whatever was sealed to the platform opens for everybody",
        "reconciler/vault/opening.py",
        'if opened.sealed_to == "platform" and not accepted.platform_recipient:',
        "if False:",
        f"{COPIED}::test_a_repository_that_copies_anothers_secrets_gets_none_of_them",
    ),
    Bug(
        "place",
        "a value without a place opens anywhere in its project",
        "reconciler/vault/opening.py",
        "if opened.place is None and not accepted.unbound:",
        "if False:",
        f"{COPIED}::test_a_copy_does_not_open",
    ),
    Bug(
        "place",
        "nobody looks which place a value was sealed for",
        "reconciler/vault/opening.py",
        "if opened.place not in (None, place_of(secret, key)):",
        "if False:",
        f"{COPIED}::test_a_copy_does_not_open",
    ),
    Bug(
        "place",
        "what is delivered need not be what was applied",
        "reconciler/vault/opening.py",
        "if not hmac.compare_digest(self.version_id(secret.id, values), version_id):",
        "if False:",
        f"{COPIED}::test_a_delivery_does_not_give_out_what_the_log_does_not_name",
    ),
    Bug(
        "place",
        "rewrap makes a copied value the project's own",
        "reconciler/cli/secret_rewrap.py",
        "if version != self._applied(secret):",
        "if False:",
        f"{COPIED}::test_a_repository_that_copies_anothers_secrets_gets_none_of_them",
    ),
    Bug(
        "place",
        "a new platform key makes new version ids",
        "reconciler/vault/key_file.py",
        "(pyrage.x25519.Identity.generate(), *key.identities), key.version_key)",
        "(pyrage.x25519.Identity.generate(), *key.identities), os.urandom(32))",
        "tests/unit/vault/test_key_file.py::test_a_rotation_puts_a_new_key_first_and_keeps_the_version_key",
    ),
    Bug(
        "place",
        "a secret whose older blob does not open any more is not looked for where it stands now",
        "reconciler/secret_delivery.py",
        "for objects in clones if standing is not None else ():",
        "for objects in ():",
        "tests/integration/sources/test_secret_keys.py::"
        "test_from_the_platforms_recipient_over_a_rotation_to_the_old_keys_end",
    ),
    Bug(
        "bounds",
        "a value for a crowd is tried with every key",
        "reconciler/vault/opening.py",
        "if _is_for_a_crowd(armored):",
        "if False:",
        "tests/unit/vault/test_vault.py::test_a_value_for_a_crowd_is_refused_before_anything_is_tried",
    ),
)
