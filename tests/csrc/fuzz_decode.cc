// libFuzzer: heads of every kind, with class trees, and any numbers in them. Detections must have
// valid edges and classes, scores above the threshold, in order, and be the same on several
// threads.
#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <vector>

#include "detect/decode.h"
#include "fuzz_input.h"

namespace {

using namespace yolotf;

// Returns a class tree, or null if the input describes none. Most inputs describe one.
std::unique_ptr<ClassTree> tree_of(FuzzInput* input, std::int64_t classes) {
  std::vector<std::int64_t> parents;
  std::vector<std::int64_t> groups;
  const bool sound = input->below(8) != 0;
  while (static_cast<std::int64_t>(parents.size()) < classes) {
    const auto first = static_cast<std::int64_t>(parents.size());
    const std::int64_t group = std::min(classes - first, 1 + input->below(4));
    const std::int64_t parent = first == 0 ? -1 : input->below(first + 1) - 1;
    for (std::int64_t i = 0; i < group; ++i) {
      parents.push_back(sound ? parent : input->number());
    }
    groups.push_back(sound ? group : input->number());
  }
  try {
    return std::make_unique<ClassTree>(parents, groups);
  } catch (const std::invalid_argument& error) {
    expect(error.what()[0] != '\0');
    return nullptr;
  }
}

HeadRule rule_of(FuzzInput* input, const ClassTree* tree) {
  HeadRule rule;
  rule.kind = static_cast<HeadKind>(input->below(4));
  rule.classes = tree != nullptr ? tree->classes() : 1 + input->below(8);
  rule.boxes = 1 + input->below(3);
  rule.new_coords = input->flag();
  rule.softmax = input->flag();
  rule.class_fix = input->flag();
  rule.sqrt_sides = input->flag();
  rule.side = 1 + input->below(3);
  rule.scale_x_y = input->real();
  rule.center_shift = input->real();
  for (std::int64_t i = 0; i < 2 * rule.boxes; ++i) {
    rule.anchors.push_back(input->real());
  }
  if (rule.kind == HeadKind::kRegion) {
    rule.tree = tree;
  } else if (tree != nullptr) {
    rule.classes = 1 + input->below(8);
  }
  return rule;
}

bool equal(const std::vector<Detection>& a, const std::vector<Detection>& b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](const auto& c, const auto& d) {
           return c.left == d.left && c.top == d.top && c.right == d.right &&
                  c.bottom == d.bottom && c.score == d.score && c.class_id == d.class_id;
         });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzInput input(data, size);
  // Any numbers are rejected or counted.
  HeadRule any_rule;
  any_rule.kind = static_cast<HeadKind>(input.below(4));
  any_rule.classes = input.number();
  any_rule.boxes = input.number();
  any_rule.side = input.number();
  any_rule.anchors.resize(static_cast<std::size_t>(input.below(8)));
  expect(floats_per_image(any_rule, input.number(), input.number()) >= -1);

  const std::unique_ptr<ClassTree> tree =
      input.flag() ? tree_of(&input, 1 + input.below(12)) : nullptr;
  const std::int64_t images = 1 + input.below(2);
  std::vector<HeadRule> rules;
  std::vector<RawHead> heads;
  std::vector<std::vector<float>> numbers;
  for (std::int64_t remaining = 1 + input.below(2); remaining > 0; --remaining) {
    const HeadRule rule = rule_of(&input, tree.get());
    const bool flat = rule.kind == HeadKind::kDetection;
    const std::int64_t rows = flat ? 1 : 1 + input.below(4);
    const std::int64_t columns = flat ? 1 : 1 + input.below(4);
    const std::int64_t floats = floats_per_image(rule, rows, columns);
    if (floats <= 0 || floats % (rows * columns) != 0) {
      continue;
    }
    numbers.emplace_back();
    for (std::int64_t i = 0; i < images * floats; ++i) {
      numbers.back().push_back(input.size() > 0 ? input.real() : static_cast<float>(i % 7 - 3));
    }
    rules.push_back(rule);
    heads.push_back({nullptr, rows, columns, floats / (rows * columns)});
  }
  for (std::size_t i = 0; i < heads.size(); ++i) {
    heads[i].data = numbers[i].data();
  }
  DecodeOptions options;
  options.input = {32 * (1 + input.below(20)), 32 * (1 + input.below(20))};
  options.score_threshold = static_cast<float>(input.byte()) / 256.0F;
  options.iou_threshold = static_cast<float>(input.byte()) / 256.0F;
  options.max_boxes = 1 + input.below(40);
  options.suppression = static_cast<SuppressionKind>(input.below(3));
  options.letter_box = input.flag();
  options.agnostic = input.flag();
  options.unwanted.assign(static_cast<std::size_t>(input.below(6)), input.flag());
  std::vector<ImageSize> sizes;
  for (std::int64_t i = 0; i < images; ++i) {
    sizes.push_back({1 + input.below(200) * 9, 1 + input.below(200) * 9});
  }
  options.order = static_cast<Order>(input.below(3));
  const auto batch = detect_all(rules, heads, sizes, options, 2);
  expect(batch.size() == sizes.size());
  for (std::size_t i = 0; i < batch.size(); ++i) {
    expect(equal(batch[i], detect(rules, heads, static_cast<std::int64_t>(i), sizes[i], options)));
    expect(static_cast<std::int64_t>(batch[i].size()) <= options.max_boxes);
    float previous_score = INFINITY;
    for (const Detection& detection : batch[i]) {
      expect(detection.score > options.score_threshold);
      expect(options.order != Order::kScore || detection.score <= previous_score);
      previous_score = detection.score;
      expect(detection.class_id >= 0 && detection.class_id < 32);
      expect(!std::isnan(detection.left) && !std::isnan(detection.right) &&
             !std::isnan(detection.top) && !std::isnan(detection.bottom));
    }
  }
  return 0;
}
