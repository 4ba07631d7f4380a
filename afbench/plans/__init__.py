"""Read, check, expand and estimate plans; nothing here needs torch."""

from .attack_names import parse_attack
from .attack_settings import canonical_json, config_name, make_setting, max_levels, parse_phi, stored_phi
from .attack_spec import Attack
from .attacks import ATTACKS, BUILT_IN, PAPER_PHI, PAPER_STEPS, attack_of
from .catalogue import CLASSES, require_catalogue
from .estimate import (
    BlockEstimate,
    estimate,
    loss_and_target,
    naive_gradients,
    queries,
    settings_by_group,
    shared_gradients,
)
from .narrow import narrow_plan
from .runplan import (
    OWN_LAYOUTS,
    SOURCE_NAMES,
    Block,
    RunPlan,
    SourceSpec,
    check_plan,
    expand_attack,
    list_plans,
    parse_source,
    read_plan,
    with_read_options,
    with_terms,
)
from .serial import plan_as_json, plan_from_json

__all__ = [
    "ATTACKS",
    "BUILT_IN",
    "CLASSES",
    "OWN_LAYOUTS",
    "PAPER_PHI",
    "PAPER_STEPS",
    "SOURCE_NAMES",
    "Attack",
    "Block",
    "BlockEstimate",
    "RunPlan",
    "SourceSpec",
    "attack_of",
    "canonical_json",
    "check_plan",
    "config_name",
    "estimate",
    "expand_attack",
    "list_plans",
    "loss_and_target",
    "make_setting",
    "max_levels",
    "naive_gradients",
    "narrow_plan",
    "parse_attack",
    "parse_phi",
    "parse_source",
    "plan_as_json",
    "plan_from_json",
    "queries",
    "read_plan",
    "require_catalogue",
    "settings_by_group",
    "shared_gradients",
    "stored_phi",
    "with_read_options",
    "with_terms",
]
