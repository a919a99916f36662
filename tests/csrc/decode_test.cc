#include "detect/decode.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "testing.h"

TEST_SUITE_BEGIN("decode");

namespace yolotf {
namespace {

HeadRule yolo(std::int64_t classes, std::vector<float> anchors) {
  HeadRule rule;
  rule.classes = classes;
  rule.boxes = static_cast<std::int64_t>(anchors.size() / 2);
  rule.anchors = std::move(anchors);
  return rule;
}

// The numbers of a head in heap memory of exactly their size.
struct Numbers {
  Numbers(const HeadRule& rule, std::int64_t images, std::int64_t rows, std::int64_t columns,
          float value)
      : size(static_cast<std::size_t>(images * floats_per_image(rule, rows, columns))),
        memory(new float[size]),
        head{memory.get(), rows, columns,
             floats_per_image(rule, rows, columns) / (rows * columns)} {
    std::fill(memory.get(), memory.get() + size, value);
  }
  float& operator[](std::size_t index) { return memory[index]; }

  std::size_t size;
  std::unique_ptr<float[]> memory;
  RawHead head;
};

DecodeOptions options_of(std::int64_t height, std::int64_t width) {
  DecodeOptions options;
  options.input = {height, width};
  options.score_threshold = 0.25F;
  options.iou_threshold = 0.45F;
  options.max_boxes = 300;
  return options;
}

bool near(float a, double b) { return std::fabs(static_cast<double>(a) - b) < 1e-3; }

TEST_CASE("a box is where Darknet places it") {
  const HeadRule rule = yolo(2, {16, 8});
  Numbers raw(rule, 1, 2, 3, -20);
  const std::size_t entry = 7 * (1 * 3 + 2);  // second row, third column
  raw[entry] = 0;
  raw[entry + 1] = 0;
  raw[entry + 2] = std::log(2.0F);
  raw[entry + 3] = 0;
  raw[entry + 4] = 10;
  raw[entry + 6] = 10;
  const auto detections = detect({rule}, {raw.head}, 0, {64, 96}, options_of(64, 96));
  REQUIRE(detections.size() == 1);
  CHECK(detections[0].class_id == 1);
  CHECK(near(detections[0].score, 0.9999));
  CHECK(near(detections[0].left, 80 - 16));
  CHECK(near(detections[0].right, 80 + 16));
  CHECK(near(detections[0].top, 48 - 4));
  CHECK(near(detections[0].bottom, 48 + 4));
}

TEST_CASE("suppression keeps the best of overlapping boxes of a class") {
  const HeadRule rule = yolo(2, {16, 16, 16, 16, 16, 16});
  Numbers raw(rule, 1, 1, 1, 0);
  for (std::size_t i = 0; i < 3; ++i) {
    raw[7 * i + 4] = 5;
    raw[7 * i + 5] = static_cast<float>(i);  // the third is the best of class 0
    raw[7 * i + 6] = -20;
  }
  raw[6] = 3;  // the first is of class 1, too
  DecodeOptions options = options_of(32, 32);
  auto detections = detect({rule}, {raw.head}, 0, {32, 32}, options);
  REQUIRE(detections.size() == 2);
  CHECK(detections[0].class_id == 1);
  CHECK(detections[1].class_id == 0);
  CHECK(near(detections[1].score, 0.9933 * 0.8808));
  options.agnostic = true;
  REQUIRE(detect({rule}, {raw.head}, 0, {32, 32}, options).size() == 1);
  options.unwanted = {false, true};
  detections = detect({rule}, {raw.head}, 0, {32, 32}, options);
  REQUIRE(detections.size() == 1);
  CHECK(detections[0].class_id == 0);
}

TEST_CASE("equal scores keep their order, and max_boxes the best") {
  const HeadRule rule = yolo(1, {1, 1});
  Numbers raw(rule, 1, 4, 4, 0);
  for (std::size_t i = 0; i < 16; ++i) {
    raw[6 * i + 4] = 8;
    raw[6 * i + 5] = 8;
  }
  DecodeOptions options = options_of(128, 128);
  options.max_boxes = 5;
  const auto detections = detect({rule}, {raw.head}, 0, {128, 128}, options);
  REQUIRE(detections.size() == 5);
  for (std::size_t i = 0; i < 5; ++i) {
    REQUIRE(near(detections[i].left, 16 + 32 * static_cast<double>(i % 4) - 0.5));
    REQUIRE(near(detections[i].top, 16 + 32 * static_cast<double>(i / 4) - 0.5));
  }
}

TEST_CASE("an infinite side reaches the edges") {
  const HeadRule rule = yolo(1, {16, 8});
  Numbers raw(rule, 1, 1, 1, 10);
  raw[0] = 0;
  raw[1] = 0;
  raw[3] = 0;
  for (const float extent : {100.0F, kInfinity, kNan}) {
    raw[2] = extent;
    const auto detections = detect({rule}, {raw.head}, 0, {48, 40}, options_of(32, 32));
    REQUIRE(detections.size() == 1);
    REQUIRE(detections[0].left == 0);
    REQUIRE(detections[0].right == 40);
    REQUIRE(near(detections[0].top, 24 - 6));
    REQUIRE(near(detections[0].bottom, 24 + 6));
  }
}

TEST_CASE("the letter box is undone") {
  const HeadRule rule = yolo(1, {32, 16});
  Numbers raw(rule, 1, 1, 1, 0);
  raw[4] = raw[5] = 10;
  DecodeOptions options = options_of(32, 32);
  options.letter_box = true;
  const auto detections = detect({rule}, {raw.head}, 0, {50, 100}, options);
  REQUIRE(detections.size() == 1);
  CHECK(near(detections[0].left, 0));
  CHECK(near(detections[0].right, 100));
  CHECK(near(detections[0].top, 0));
  CHECK(near(detections[0].bottom, 50));
}

TEST_CASE("[detection] reads channels first") {
  HeadRule rule;
  rule.kind = HeadKind::kDetection;
  rule.classes = 2;
  rule.boxes = 1;
  rule.side = 2;
  rule.sqrt_sides = true;
  CHECK(floats_per_image(rule, 1, 1) == 28);
  CHECK(floats_per_image(rule, 9, 9) == 28);
  std::vector<float> flat(28, 0);
  flat[3] = 1;      // cell 1, class 1
  flat[8 + 1] = 1;  // confidence of cell 1
  const std::size_t box = 12 + 4;
  flat[box] = flat[box + 1] = 0.5F;
  flat[box + 2] = flat[box + 3] = 0.5F;
  Numbers alone(rule, 1, 1, 1, 0);
  Numbers grid(rule, 1, 2, 2, 0);
  for (std::size_t i = 0; i < 28; ++i) {
    alone[i] = flat[i];
    grid[i % 4 * 7 + i / 4] = flat[i];
  }
  for (const RawHead& head : {alone.head, grid.head}) {
    const auto detections = detect({rule}, {head}, 0, {8, 8}, options_of(8, 8));
    REQUIRE(detections.size() == 1);
    REQUIRE(detections[0].class_id == 1);
    REQUIRE(detections[0].score == 1);
    REQUIRE(detections[0].left == 5);
    REQUIRE(detections[0].right == 7);
    REQUIRE(detections[0].top == 1);
    REQUIRE(detections[0].bottom == 3);
  }
}

TEST_CASE("invalid heads have no floats") {
  HeadRule rule = yolo(1, {1, 1});
  CHECK(floats_per_image(rule, 2, 3) == 36);
  CHECK(floats_per_image(rule, 0, 3) == 0);
  CHECK(floats_per_image(rule, -1, 3) == -1);
  CHECK(floats_per_image(rule, std::int64_t{1} << 40, std::int64_t{1} << 40) == -1);
  rule.classes = -1;
  CHECK(floats_per_image(rule, 2, 3) == -1);
  rule.classes = std::numeric_limits<std::int64_t>::max();
  CHECK(floats_per_image(rule, 2, 3) == -1);
  rule.classes = 1;
  rule.boxes = 2;
  CHECK(floats_per_image(rule, 2, 3) == -1);
  rule.boxes = std::numeric_limits<std::int64_t>::max();
  CHECK(floats_per_image(rule, 2, 3) == -1);
  rule.kind = HeadKind::kDetection;
  rule.boxes = 1;
  for (const std::int64_t side :
       {std::int64_t{0}, std::int64_t{-1}, std::numeric_limits<std::int64_t>::max()}) {
    rule.side = side;
    REQUIRE(floats_per_image(rule, 2, 3) == -1);
  }
}

// Two groups of roots, and two groups below class 0, not adjacent.
ClassTree small_tree() { return ClassTree({-1, -1, 0, 0, 1, -1, -1, 0}, {2, 2, 1, 2, 1}); }

HeadRule region(const ClassTree& tree) {
  HeadRule rule = yolo(tree.classes(), {1, 1, 2, 1});
  rule.kind = HeadKind::kRegion;
  rule.tree = &tree;
  return rule;
}

TEST_CASE("a box is of the last class of its tree that is likely") {
  const ClassTree tree = small_tree();
  const HeadRule rule = region(tree);
  Numbers raw(rule, 1, 1, 1, -20);
  raw[4] = 1;
  const auto set = [&](const std::vector<float>& numbers) {
    std::copy(numbers.begin(), numbers.end(), &raw[5]);
  };
  const auto is = [&](std::int32_t class_id, double score) {
    const auto detections = detect({rule}, {raw.head}, 0, {32, 32}, options_of(32, 32));
    return detections.size() == 1 && detections[0].class_id == class_id &&
           near(detections[0].score, score);
  };
  set({9, 0, 0, 0, 9, 0, 0, 9});  // class 7, alone below class 0, is as likely as that
  CHECK(is(7, 0.9999));
  set({0, 9, 9, 0, -9, 0, 0, 9});  // a class alone in its group has probability 1
  CHECK(is(4, 0.9999));
  set({0, 0, 9, 0, 9, 2, 0, 9});  // no class of the first group of roots, but one of the second
  CHECK(is(5, 0.8808));
  set({2, 0, 2, 0, 0, 0, 1, kNan});
  CHECK(is(6, 0.7311));
  set({2, 0, 2, 0, 0, 0, 0, kNan});
  CHECK(is(2, 0.8808 * 0.8808));
  DecodeOptions options = options_of(32, 32);
  options.unwanted = {false, false, true};
  CHECK(detect({rule}, {raw.head}, 0, {32, 32}, options).empty());
  options.unwanted.clear();
  options.score_threshold = 0.75F;  // above the objectness, which is 0.731
  CHECK(detect({rule}, {raw.head}, 0, {32, 32}, options).empty());
  set({0, 0, 0, 0, 0, 0, 0, 0});  // a half is not above a half
  CHECK(detect({rule}, {raw.head}, 0, {32, 32}, options_of(32, 32)).empty());
}

bool is_tree(const std::vector<std::int64_t>& parents, const std::vector<std::int64_t>& groups) {
  try {
    return ClassTree(parents, groups).classes() == static_cast<std::int64_t>(parents.size());
  } catch (const std::invalid_argument&) {
    return false;
  }
}

TEST_CASE("invalid class trees are refused") {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
  CHECK(is_tree({}, {}));
  CHECK(is_tree({-1, -1, 0}, {2, 1}));
  CHECK(is_tree({-1, -1, 0}, {1, 1, 1}));
  for (const std::int64_t parent : {kLeast, std::int64_t{-2}, std::int64_t{2}, kMost}) {
    REQUIRE(!is_tree({-1, -1, parent}, {2, 1}));
  }
  CHECK(!is_tree({1, 0}, {1, 1}));       // each below the other
  CHECK(!is_tree({-1, -1, 0}, {3}));     // two parents
  CHECK(!is_tree({-1, -1, 0}, {2}));     // too few
  CHECK(!is_tree({-1, -1, 0}, {2, 2}));  // too many
  CHECK(!is_tree({}, {1}));
  for (const std::int64_t group : {kLeast, std::int64_t{-1}, std::int64_t{0}, kMost}) {
    REQUIRE(!is_tree({-1, -1, 0}, {2, group, 1}));
    REQUIRE(!is_tree({-1, -1, 0}, {2, 1, group}));
  }
  const ClassTree tree = small_tree();
  HeadRule rule = region(tree);
  CHECK(floats_per_image(rule, 2, 3) == 6 * 26);
  rule.classes = 7;
  CHECK(floats_per_image(rule, 2, 3) == -1);
  rule.classes = 8;
  rule.kind = HeadKind::kYolo;
  CHECK(floats_per_image(rule, 2, 3) == -1);
}

TEST_CASE("a class tree may be as deep as it has classes") {
  std::vector<std::int64_t> parents;
  for (std::int64_t i = -1; i < 199999; ++i) {
    parents.push_back(i);
  }
  const ClassTree tree(parents, std::vector<std::int64_t>(parents.size(), 1));
  const HeadRule rule = region(tree);
  const Numbers raw(rule, 1, 1, 1, 0);
  const auto detections = detect({rule}, {raw.head}, 0, {32, 32}, options_of(32, 32));
  REQUIRE(!detections.empty());
  CHECK(detections[0].class_id == 199999);
  CHECK(detections[0].score == 1);
}

// Like last_above_half, but computes the probabilities of all classes, as Darknet does.
ClassTree::ClassProbability slow_last_above_half(const std::vector<std::int64_t>& parents,
                                                 const std::vector<std::int64_t>& groups,
                                                 const float* numbers) {
  std::vector<double> likely(parents.size());
  std::size_t begin = 0;
  for (const std::int64_t group : groups) {
    const std::size_t end = begin + static_cast<std::size_t>(group);
    const float largest = *std::max_element(numbers + begin, numbers + end);
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) {
      likely[i] = std::exp(static_cast<double>(numbers[i] - largest));
      sum += likely[i];
    }
    for (; begin < end; ++begin) {
      const std::int64_t parent = parents[begin];
      likely[begin] *= (parent < 0 ? 1 : likely[static_cast<std::size_t>(parent)]) / sum;
    }
  }
  for (std::size_t i = parents.size(); i-- > 0;) {
    if (likely[i] > 0.5) {
      return {static_cast<std::int64_t>(i), static_cast<float>(likely[i])};
    }
  }
  return {};
}

TEST_CASE("random class trees agree with the probabilities of all classes") {
  std::mt19937 random(6);
  std::normal_distribution<float> normal(0, 3);
  const std::vector<float> odd = {kNan, kInfinity, -kInfinity, 3e38F, -3e38F, 1e-45F, 0.0F};
  std::vector<ClassTree::ClassProbability> scratch;
  int below_roots = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::int64_t> parents;
    std::vector<std::int64_t> groups;
    for (std::uint64_t i = 0, classes = 1 + random() % 20; i < classes; ++i) {
      const std::int64_t parent = static_cast<std::int64_t>(random() % (i + 1)) - 1;
      const bool goes_on = i > 0 && random() % 2 == 0;
      parents.push_back(goes_on ? parents.back() : parent);
      if (goes_on) {
        ++groups.back();
      } else {
        groups.push_back(1);
      }
    }
    const std::unique_ptr<float[]> numbers(new float[parents.size()]);
    for (std::size_t i = 0; i < parents.size(); ++i) {
      numbers[i] = random() % 16 == 0 ? odd[random() % odd.size()] : normal(random);
    }
    const auto selected = ClassTree(parents, groups).last_above_half(numbers.get(), &scratch);
    const auto expected = slow_last_above_half(parents, groups, numbers.get());
    REQUIRE(selected.class_id == expected.class_id);
    REQUIRE(
        (selected.class_id < 0 || std::fabs(selected.probability - expected.probability) < 2e-6F));
    below_roots += static_cast<int>(selected.class_id > 0);
  }
  CHECK(below_roots > 500);
}

TEST_CASE("random numbers in heads of every kind give valid boxes") {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 3);
  const std::vector<float> odd = {kNan, kInfinity, -kInfinity, 3e38F, -3e38F, 1e-45F, 0.0F, -0.0F};
  const ClassTree tree({-1, 0, 0}, {1, 2});
  for (int round = 0; round < 400; ++round) {
    HeadRule rule = yolo(3, {10, 20, 5, 5});
    rule.kind = static_cast<HeadKind>(round % 4);
    rule.tree = round % 8 == 2 ? &tree : nullptr;
    rule.new_coords = round % 8 < 2;
    rule.softmax = round % 3 == 0;
    rule.class_fix = round % 5 == 0;
    rule.sqrt_sides = round % 7 == 0;
    rule.side = 3;
    rule.scale_x_y = 1.1F;
    rule.center_shift = round % 9 == 1 ? 0.5F : 0;
    Numbers raw(rule, 2, rule.kind == HeadKind::kDetection ? 1 : 4,
                rule.kind == HeadKind::kDetection ? 1 : 5, 0);
    for (std::size_t i = 0; i < raw.size; ++i) {
      raw[i] = random() % 4 == 0 ? odd[random() % odd.size()] : normal(random);
    }
    DecodeOptions options = options_of(64, 96);
    options.suppression = static_cast<SuppressionKind>(round % 3);
    options.letter_box = round % 2 == 0;
    options.score_threshold = round % 6 == 0 ? 0 : 0.1F;
    options.max_boxes = 20;
    const auto batch = detect_all({rule}, {raw.head}, {{30, 2000}, {1, 1}}, options, 2);
    REQUIRE(batch.size() == 2);
    for (const std::vector<Detection>& detections : batch) {
      REQUIRE(detections.size() <= 20);
      for (std::size_t i = 0; i < detections.size(); ++i) {
        REQUIRE(detections[i].score > options.score_threshold);
        REQUIRE((i == 0 || detections[i].score <= detections[i - 1].score));
        REQUIRE(detections[i].class_id >= 0);
        REQUIRE(detections[i].class_id < 3);
        REQUIRE(std::isfinite(detections[i].left));
        REQUIRE(std::isfinite(detections[i].bottom));
      }
    }
  }
}

TEST_CASE("the number of threads does not change the result") {
  const HeadRule rule = yolo(4, {10, 20, 30, 10});
  Numbers raw(rule, 7, 6, 6, 0);
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 2);
  for (std::size_t i = 0; i < raw.size; ++i) {
    raw[i] = normal(random);
  }
  const std::vector<ImageSize> sizes(7, ImageSize{100, 80});
  const auto alone = detect_all({rule}, {raw.head}, sizes, options_of(64, 64), 1);
  const auto together = detect_all({rule}, {raw.head}, sizes, options_of(64, 64), 4);
  for (std::size_t i = 0; i < 7; ++i) {
    REQUIRE(!alone[i].empty());
    REQUIRE(alone[i].size() == together[i].size());
    for (std::size_t j = 0; j < alone[i].size(); ++j) {
      REQUIRE(alone[i][j].score == together[i][j].score);
      REQUIRE(alone[i][j].left == together[i][j].left);
    }
  }
  CHECK(detect_all({rule}, {raw.head}, {}, options_of(64, 64), 4).empty());
}

TEST_CASE("the orders of both Darknets are by the last class") {
  const HeadRule rule = yolo(2, {16, 8, 8, 16});
  Numbers raw(rule, 1, 1, 2, -20);
  const auto likely = [&](std::size_t cell, std::size_t anchor, float first, float second) {
    const std::size_t entry = 7 * (2 * cell + anchor);
    raw[entry + 4] = 10;
    raw[entry + 5] = first;
    raw[entry + 6] = second;
  };
  likely(0, 0, 3, -20);
  likely(0, 1, 2, 1);
  likely(1, 0, -20, 2);
  likely(1, 1, -20, -20);  // of no class
  DecodeOptions options = options_of(32, 64);
  const auto order_text = [&](Order order) {
    options.order = order;
    std::string text;
    for (const Detection& detection : detect({rule}, {raw.head}, 0, {32, 64}, options)) {
      text += std::to_string(detection.class_id) + (detection.score > 0.9F ? "+ " : " ");
    }
    return text;
  };
  CHECK((order_text(Order::kScore) == "0+ 0 1 1 " || order_text(Order::kScore) == "0+ 1 0 1 "));
  CHECK(order_text(Order::kAlexeyAb) == "1 0 1 0+ ");
  CHECK(order_text(Order::kHankAi) == "1 0 1 0+ ");
}

}  // namespace
}  // namespace yolotf

TEST_SUITE_END();
