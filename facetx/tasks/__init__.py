"""What can be trained, and here the table of tasks."""

from collections.abc import Callable

from facetx.registry import Registry
from facetx.tasks.attributes import Attributes
from facetx.tasks.base import Task
from facetx.tasks.joint import Joint, JointParsing
from facetx.tasks.parsing import Parsing
from facetx.tasks.parsing_reward import ParsingReward
from facetx.tasks.recognition import Recognition
from facetx.tasks.rewards import REWARDS

TASKS: Registry[Callable[..., Task]] = Registry(
    "task",
    {
        "recognition": Recognition,
        "attributes": Attributes,
        "joint": Joint,
        "joint_parsing": JointParsing,
        "parsing": Parsing,
        "parsing_reward": ParsingReward,
    },
    base=Task,
)

__all__ = ["REWARDS", "TASKS", "Attributes", "Joint", "JointParsing", "Parsing", "ParsingReward", "Recognition", "Task"]
