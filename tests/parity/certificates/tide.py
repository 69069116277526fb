"""TIDE's costs of errors against the toolbox of its authors."""

from __future__ import annotations

from collections.abc import Iterator

from certificates.certificate import Case, Certificate, pair_numbers
from certificates.coco_objects import make_pairs
from densevision.metrics.tidecv_costs import TidecvCosts


def compare_costs() -> Iterator[Case]:
    """AP50, the cost and the number of errors of each kind, and the costs of all false and all missed objects."""
    import tidecv
    from tidecv.quantify import TIDERun

    for seed in range(4):
        costs, truths, predictions = TidecvCosts(), tidecv.Data("truths"), tidecv.Data("predictions")
        for image, (prediction, truth) in enumerate(make_pairs(seed)):
            costs.update(prediction, truth)
            truths.add_image(image, str(image))
            for entry, is_crowd in zip(truth.to_coco(image), truth.crowd):
                add = truths.add_ignore_region if is_crowd else truths.add_ground_truth
                add(image, entry["category_id"], entry["bbox"])
            for entry in prediction.to_coco(image):
                predictions.add_detection(image, entry["category_id"], entry["score"], entry["bbox"])
        run = TIDERun(truths, predictions, 0.5, 0.1, tidecv.TIDE.BOX, 100)
        ours = costs.compute()
        yield Case("AP50", ours["ap_base"], run.ap / 100)
        reference = {error.short_name: value / 100 for error, value in run.fix_main_errors().items()}
        special = {error.short_name: value / 100 for error, value in run.fix_special_errors().items()}
        reference |= {"FP": special["FalsePos"], "FN": special["FalseNeg"]}
        yield from pair_numbers("costs of errors", ours["delta_ap"], reference)
        counts = {error.short_name: count for error, count in run.count_errors().items()}
        yield from pair_numbers("numbers of errors", ours["counts"], counts)


CERTIFICATES = (Certificate("detection, instance", "analyze --tide tidecv", "tidecv", compare_costs),)
