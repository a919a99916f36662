// libFuzzer: heads of every kind, with class trees, and numbers of any kind in them. What is found
// lies in the picture, is above the threshold and in order if by score, and is the same on several
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

// A tree or, of numbers that make none, an error; most are made to be one.
std::unique_ptr<ClassTree> tree_of(FuzzInput* input, std::int64_t classes) {
  std::vector<std::int64_t> parents;
  std::vector<std::int64_t> groups;
  const bool sound = input->below(8) != 0;
  while (static_cast<std::int64_t>(parents.size()) < classes) {
    const auto have = static_cast<std::int64_t>(parents.size());
    const std::int64_t group = std::min(classes - have, 1 + input->below(4));
    const std::int64_t parent = have == 0 ? -1 : input->below(have + 1) - 1;
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
  rule.square = input->flag();
  rule.side = 1 + input->below(3);
  rule.scale_x_y = input->real();
  rule.point = input->real();
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

bool same(const std::vector<Detection>& some, const std::vector<Detection>& others) {
  return some.size() == others.size() &&
         std::equal(some.begin(), some.end(), others.begin(), [](const auto& a, const auto& b) {
           return a.left == b.left && a.top == b.top && a.right == b.right &&
                  a.bottom == b.bottom && a.score == b.score && a.class_id == b.class_id;
         });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzInput input(data, size);
  // Any numbers: they are refused, or count something.
  HeadRule wild;
  wild.kind = static_cast<HeadKind>(input.below(4));
  wild.classes = input.number();
  wild.boxes = input.number();
  wild.side = input.number();
  wild.anchors.resize(static_cast<std::size_t>(input.below(8)));
  expect(floats_of(wild, input.number(), input.number()) >= -1);

  const std::unique_ptr<ClassTree> tree =
      input.flag() ? tree_of(&input, 1 + input.below(12)) : nullptr;
  const std::int64_t pictures = 1 + input.below(2);
  std::vector<HeadRule> rules;
  std::vector<RawHead> heads;
  std::vector<std::vector<float>> numbers;
  for (std::int64_t left = 1 + input.below(2); left > 0; --left) {
    const HeadRule rule = rule_of(&input, tree.get());
    const bool flat = rule.kind == HeadKind::kDetection;
    const std::int64_t rows = flat ? 1 : 1 + input.below(4);
    const std::int64_t columns = flat ? 1 : 1 + input.below(4);
    const std::int64_t floats = floats_of(rule, rows, columns);
    if (floats <= 0 || floats % (rows * columns) != 0) {
      continue;
    }
    numbers.emplace_back();
    for (std::int64_t i = 0; i < pictures * floats; ++i) {
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
  options.score = static_cast<float>(input.byte()) / 256.0F;
  options.iou = static_cast<float>(input.byte()) / 256.0F;
  options.max_boxes = 1 + input.below(40);
  options.suppression = static_cast<SuppressionKind>(input.below(3));
  options.letter_box = input.flag();
  options.agnostic = input.flag();
  options.unwanted.assign(static_cast<std::size_t>(input.below(6)), input.flag());
  std::vector<Extent> sizes;
  for (std::int64_t i = 0; i < pictures; ++i) {
    sizes.push_back({1 + input.below(200) * 9, 1 + input.below(200) * 9});
  }
  options.order = static_cast<Order>(input.below(3));
  const auto all = detect_all(rules, heads, sizes, options, 2);
  expect(all.size() == sizes.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    expect(same(all[i], detect(rules, heads, static_cast<std::int64_t>(i), sizes[i], options)));
    expect(static_cast<std::int64_t>(all[i].size()) <= options.max_boxes);
    float before = INFINITY;
    for (const Detection& found : all[i]) {
      expect(found.score > options.score);
      expect(options.order != Order::kScore || found.score <= before);
      before = found.score;
      expect(found.class_id >= 0 && found.class_id < 32);
      expect(!std::isnan(found.left) && !std::isnan(found.right) && !std::isnan(found.top) &&
             !std::isnan(found.bottom));
    }
  }
  return 0;
}
