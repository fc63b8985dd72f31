"""The bones of one hand at one bone age, as shapes to paint."""

import numpy as np
from jaxtyping import Float

from boneage.preprocessing.synthetic.pose import FOREARM_MM, Pose
from boneage.preprocessing.synthetic.shapes import Nodule, Tube
from boneage.preprocessing.synthetic.timetable import ONSET_MONTHS, Stage, find_stage, measure_immaturity

Part = Tube | Nodule

# All sizes in this module are chosen by eye beside radiographs, not measured.
# Radii in millimetres at the proximal end, the waist and the distal end; adult middle finger, and adult thumb.
FINGER_RADII_MM = {
    "metacarpal": (5.6, 3.1, 6.7),
    "proximal": (6.3, 3.5, 4.8),
    "middle": (5.4, 3.1, 4.3),
    "distal": (4.3, 2.0, 3.0),
}
THUMB_RADII_MM = {"metacarpal": (6.4, 3.9, 6.0), "proximal": (6.2, 3.8, 5.1), "distal": (5.3, 2.6, 3.7)}
FINGER_WIDTHS = (1.0, 1.0, 1.03, 0.95, 0.84)
# Radii likewise; distance from the middle of the wrist towards the thumb, and down the forearm.
FOREARM_BONES = {"radius": ((14.2, 6.4, 7.4), 9.5, -3.0), "ulna": ((7.2, 4.6, 6.2), -16.0, 2.0)}
# Length of bone beyond the growth plate in the adult, in millimetres; "knuckle" is the head of metacarpals 2 to 5.
EPIPHYSIS_MM = {
    "knuckle": 9.0,
    "metacarpal": 5.5,
    "proximal": 4.8,
    "middle": 4.0,
    "distal": 3.3,
    "radius": 8.0,
    "ulna": 5.5,
}

# Carpals of an adult: middle (mm), direction of the long half-axis (degrees), half-axes (mm), lobes.
CARPALS = {
    "scaphoid": ((14.0, 11.5), 52.0, (11.8, 6.5), (0.06, 0.08)),
    "lunate": ((0.0, 9.5), 20.0, (7.6, 7.0), (0.08, 0.10)),
    "triquetrum": ((-13.5, 14.0), 125.0, (7.6, 6.2), (0.05, 0.10)),
    "pisiform": ((-16.5, 12.0), 60.0, (5.2, 4.5), (0.03, 0.03)),
    "hamate": ((-8.5, 25.0), 75.0, (9.2, 7.5), (0.05, 0.14)),
    "capitate": ((3.0, 24.0), 92.0, (11.7, 7.2), (0.09, 0.06)),
    "trapezoid": ((14.0, 28.0), 100.0, (6.2, 5.4), (0.06, 0.08)),
    "trapezium": ((21.5, 23.0), 40.0, (7.8, 6.3), (0.08, 0.09)),
}


def draw_skeleton(pose: Pose, *, bone_age_months: float | int, sex: str, rng: np.random.Generator) -> list[Part]:
    """Build every ossified bone of hand and wrist.

    Args:
        pose: Positions of the joints.
        bone_age_months: Bone age in months.
        sex: `"female"` or `"male"`.
        rng: Random generator for individual timing and shape; its numbers do not depend on age or sex, so that one
            seed is one child at every age.

    Returns:
        The parts of all bones, none of them empty.
    """
    # The variation of a centre between children grows with the age at which it appears.
    delays = {name: rng.normal(0, 1.0) * (0.6 + 0.025 * np.mean(months)) for name, months in ONSET_MONTHS.items()}
    stages = {
        name: find_stage(name, bone_age_months=bone_age_months, sex=sex, delay_months=float(delay))
        for name, delay in delays.items()
    }
    build = float(rng.normal(1.0, 0.05))
    immaturity = measure_immaturity(bone_age_months, sex=sex)
    stoutness = build * (1.0 if sex == "female" else 1.04) * (1 + 0.15 * immaturity)
    parts: list[Part] = []
    for finger, chain in enumerate(pose.chains_mm):
        radii_by_kind = THUMB_RADII_MM if finger == 0 else FINGER_RADII_MM
        for (kind, radii), start, end in zip(radii_by_kind.items(), chain[:-1], chain[1:], strict=True):
            stage = stages[f"{kind}_{finger + 1}"]
            radii_mm = np.array(radii) * FINGER_WIDTHS[finger] * stoutness
            if kind == "metacarpal" and finger > 0:
                # Only metacarpals 2 to 5 have their epiphysis at the distal end.
                parts += _long_bone(
                    end, start, radii_mm=radii_mm[::-1], kind="knuckle", stage=stage, immaturity=immaturity
                )
            else:
                parts += _long_bone(start, end, radii_mm=radii_mm, kind=kind, stage=stage, immaturity=immaturity)
    parts += _forearm(pose, stages=stages, stoutness=stoutness, immaturity=immaturity)
    parts += _carpals(stages, rng=rng)
    if stages["sesamoid"].growth:
        knuckle = pose.chains_mm[0][1]
        half_mm = 2.9 * stages["sesamoid"].growth
        parts.append(Nodule((float(knuckle[0] - 7), float(knuckle[1] - 1)), 60.0, (half_mm, half_mm * 0.8)))
    return parts


def _long_bone(
    start: Float[np.ndarray, "2"],
    end: Float[np.ndarray, "2"],
    *,
    radii_mm: Float[np.ndarray, "3"],
    kind: str,
    stage: Stage,
    immaturity: float,
) -> list[Part]:
    """Return a tubular bone whose growth plate is near `start`: shaft and epiphysis, or the fused bone."""
    length = float(np.hypot(*(end - start)))
    axis = (end - start) / length
    axis_degrees = float(np.degrees(np.arctan2(axis[1], axis[0])))
    is_knuckle = kind == "knuckle"
    joint_mm = 0.5
    plate_mm = 0.2 + 1.0 * (1 - stage.growth)
    shaft_start_mm = joint_mm + EPIPHYSIS_MM[kind] * (1 + 0.25 * immaturity) + plate_mm * (1 - 0.5 * stage.fusion)
    near, waist, far = (float(radius) for radius in radii_mm)
    flare_mm = min(2.2 * near, 0.3 * length)
    # A young shaft is thick and hardly flares.
    waist = waist * (1 + 0.25 * immaturity)
    radii = (waist + (near - waist) * (1 - 0.3 * immaturity), waist, waist + (far - waist) * (1 - 0.8 * immaturity))
    far_end_mm = length - joint_mm - 1.5 * immaturity

    def at(distance_mm: float) -> tuple[float, float]:
        point = start + axis * distance_mm
        return float(point[0]), float(point[1])

    parts: list[Part] = [
        Tube(at(shaft_start_mm), at(far_end_mm), radii, flare_mm, 1 + 2 * immaturity, opacity=1 - stage.fusion)
    ]
    if stage.growth == 0:
        return parts
    room_mm = shaft_start_mm - joint_mm - plate_mm * (1 - stage.fusion)
    half_mm = room_mm / 2 * (0.55 + 0.45 * stage.growth)
    half_width_mm = near * stage.growth * (1.0 + 0.06 * stage.capping)
    parts.append(
        Nodule(
            at(joint_mm + room_mm - half_mm),
            axis_degrees,
            (half_mm, half_width_mm),
            squareness=2.0 + (0.7 if is_knuckle else 2.0) * stage.growth,
            bend=(0.30 if is_knuckle else 0.22) * stage.capping,
            opacity=1 - stage.fusion,
        )
    )
    if stage.fusion > 0:
        # The fused bone fades in as the plate closes; its end flares from the joint on.
        fused_radii, fused_flare_mm = (half_width_mm, *radii[1:]), flare_mm + 0.4 * room_mm
        rounding_mm = 3.0 if is_knuckle else 1.2
        parts.append(Tube(at(joint_mm), at(far_end_mm), fused_radii, fused_flare_mm, rounding_mm, stage.fusion))
    return parts


def _forearm(pose: Pose, *, stages: dict[str, Stage], stoutness: float, immaturity: float) -> list[Part]:
    """Return radius and ulna, whose growth plates are at the wrist."""
    parts: list[Part] = []
    for name, (radii, thumbwards_mm, distance_mm) in FOREARM_BONES.items():
        start = pose.locate_on_forearm(distance_mm, thumbwards_mm=thumbwards_mm)
        end = pose.locate_on_forearm(FOREARM_MM, thumbwards_mm=0.9 * thumbwards_mm)
        parts += _long_bone(
            start, end, radii_mm=np.array(radii) * stoutness, kind=name, stage=stages[name], immaturity=immaturity
        )
    return parts


def _carpals(stages: dict[str, Stage], *, rng: np.random.Generator) -> list[Part]:
    """Return the carpals that have appeared; they are round at first and grow into their shape."""
    parts: list[Part] = []
    for name, (centre, axis_degrees, half_axes, lobes) in CARPALS.items():
        shift, turn_degrees = rng.normal(0, 0.6, size=2), rng.normal(0, 5.0)
        growth = stages[name].growth
        if growth == 0:
            continue
        shape = max(0.0, (growth - 0.4) / 0.6)
        mean = float(np.sqrt(half_axes[0] * half_axes[1]))
        along, across = (growth * (mean + (half - mean) * shape) for half in half_axes)
        parts.append(
            Nodule(
                (float(centre[0] + shift[0]), float(centre[1] + shift[1])),
                float(axis_degrees + turn_degrees),
                (along, across),
                squareness=2.0 + 0.8 * shape,
                lobes=(lobes[0] * shape, lobes[1] * shape),
            )
        )
    return parts
