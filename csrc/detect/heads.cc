#include "detect/heads.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/product.h"

namespace yolotf {

// A head for one image.
class Head {
 public:
  Head() = default;
  virtual ~Head() = default;
  Head(const Head&) = delete;
  Head& operator=(const Head&) = delete;

  // Adds the candidates of the head, the `head_index`th of the network.
  virtual void find_candidates(std::size_t head_index, Candidates* out) = 0;
  virtual Box box(std::int64_t index) const noexcept = 0;
};

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float logistic(float raw) noexcept {
  return static_cast<float>(1.0 / (1.0 + std::exp(-static_cast<double>(raw))));
}

float exponential(float raw) noexcept {
  return static_cast<float>(std::exp(static_cast<double>(raw)));
}

// Returns a close lower bound of the raw numbers whose logistic is above `threshold`. Only numbers
// above it have to be evaluated and compared.
float raw_limit(double threshold) noexcept {
  const double lowered = threshold * (1 - 1e-6);
  if (!(lowered > 0)) {
    return -kInfinity;
  }
  if (lowered >= 1) {
    return kInfinity;
  }
  return static_cast<float>(std::log(lowered / (1 - lowered)) - 1e-3);
}

bool is_wanted(const DecodeOptions& options, std::int64_t class_id) noexcept {
  const auto index = static_cast<std::size_t>(class_id);
  return index >= options.unwanted.size() || !options.unwanted[index];
}

// Adds the candidates of boxes, one box after the other. Methods that add return whether they have
// added any.
class CandidateCollector {
 public:
  CandidateCollector(const DecodeOptions& options, Candidates* out)
      : options_(options), out_(out) {}

  // For class probabilities `factor` * logistic(raw); `factor` is at most 1.
  bool add_logistic(float objectness, float factor, const float* raw, std::int64_t classes) {
    const double threshold = static_cast<double>(options_.score_threshold) /
                             (static_cast<double>(objectness) * static_cast<double>(factor));
    const float limit = raw_limit(threshold);
    int above_limit = 0;
    for (std::int64_t i = 0; i < classes; ++i) {
      above_limit += static_cast<int>(raw[i] > limit);
    }
    bool any = false;
    for (std::int64_t i = 0; above_limit > 0 && i < classes; ++i) {
      if (raw[i] > limit) {
        any |= add(objectness * (logistic(raw[i]) * factor), i);
      }
    }
    return any;
  }

  // For class probabilities `factor` * raw.
  bool add_plain(float objectness, float factor, const float* raw, std::int64_t classes) {
    bool any = false;
    for (std::int64_t i = 0; i < classes; ++i) {
      any |= add(objectness * (raw[i] * factor), i);
    }
    return any;
  }

  bool add(float score, std::int64_t class_id) {
    if (!(score > options_.score_threshold) || !is_wanted(options_, class_id)) {
      return false;
    }
    out_->all.push_back({score, static_cast<std::int32_t>(class_id), out_->boxes.size()});
    return true;
  }

  // Ends a box: the candidates added since the last call are its.
  void end_box(const BoxIndex& box) { out_->boxes.push_back(box); }

 private:
  const DecodeOptions& options_;
  Candidates* out_;
};

// Darknet's softmax with temperature 1 (blas.c), which subtracts the maximum first.
void softmax(const float* raw, std::int64_t count, float* out) {
  float largest = -kInfinity;
  for (std::int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, raw[i]);
  }
  float sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = exponential(raw[i] - largest);
    sum += out[i];
  }
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] /= sum;
  }
}

std::int64_t coordinate_count(HeadKind kind) noexcept {
  return kind == HeadKind::kGaussianYolo ? 8 : 4;
}

// A head with anchors: yolo_layer.c:131 and 1103, gaussian_yolo_layer.c:134, region_layer.c:86.
class AnchorHead final : public Head {
 public:
  AnchorHead(const HeadRule& rule, const RawHead& head, const float* raw,
             const DecodeOptions& options)
      : rule_(rule),
        head_(head),
        raw_(raw),
        options_(options),
        coordinates_(coordinate_count(rule.kind)),
        entries_(coordinates_ + 1 + rule.classes),
        rows_(static_cast<float>(head.rows)),
        columns_(static_cast<float>(head.columns)),
        offset_(static_cast<float>(0.5 * (static_cast<double>(rule.scale_x_y) - 1.0))),
        probabilities_(
            static_cast<std::size_t>(rule.softmax && rule.tree == nullptr ? rule.classes : 0)) {
    const bool region = rule.kind == HeadKind::kRegion;
    const float width = region ? columns_ : static_cast<float>(options.input.width);
    const float height = region ? rows_ : static_cast<float>(options.input.height);
    for (std::size_t i = 0; i + 1 < rule.anchors.size(); i += 2) {
      anchors_.push_back(rule.anchors[i] / width);
      anchors_.push_back(rule.anchors[i + 1] / height);
    }
  }

  void find_candidates(std::size_t head_index, Candidates* out) override {
    CandidateCollector collector(options_, out);
    const std::int64_t count = head_.rows * head_.columns * rule_.boxes;
    // In [region] without softmax a class probability may be above 1, so that a low objectness
    // excludes nothing.
    const bool objectness_decides =
        rule_.kind != HeadKind::kRegion || rule_.softmax || rule_.tree != nullptr;
    const float limit = !objectness_decides ? -kInfinity
                        : rule_.new_coords
                            ? options_.score_threshold
                            : raw_limit(static_cast<double>(options_.score_threshold));
    constexpr std::int64_t kBlock = 256;
    std::int64_t selected[kBlock];
    for (std::int64_t start = 0; start < count; start += kBlock) {
      const std::int64_t end = std::min(count, start + kBlock);
      std::int64_t selected_count = 0;  // without branches
      for (std::int64_t i = start; i < end; ++i) {
        selected[selected_count] = i;
        selected_count += static_cast<std::int64_t>(!objectness_decides ||
                                                    raw_[i * entries_ + coordinates_] > limit);
      }
      for (std::int64_t i = 0; i < selected_count; ++i) {
        const float* raw = raw_ + selected[i] * entries_;
        const float objectness = objectness_of(raw[coordinates_]);
        if (objectness_decides && !(objectness > options_.score_threshold)) {
          continue;
        }
        if (add_classes(raw, objectness, &collector) || options_.order == Order::kHankAi) {
          collector.end_box({head_index, selected[i]});
        }
      }
    }
  }

  Box box(std::int64_t index) const noexcept override {
    const std::int64_t cell = index / rule_.boxes;
    return box(raw_ + index * entries_, static_cast<float>(cell % head_.columns),
               static_cast<float>(cell / head_.columns),
               static_cast<std::size_t>(2 * (index % rule_.boxes)));
  }

 private:
  float objectness_of(float raw) const noexcept {
    if (rule_.new_coords) {
      return raw;
    }
    const float objectness = logistic(raw);
    return rule_.class_fix && objectness < 0.5F ? 0.0F : objectness;  // region_layer.c:389
  }

  // Adds the candidates of the box at `raw`; returns whether there are any.
  bool add_classes(const float* raw, float objectness, CandidateCollector* collector) {
    const float* classes = raw + coordinates_ + 1;
    if (rule_.tree != nullptr) {
      const ClassTree::ClassProbability selected =
          rule_.tree->last_above_half(classes, &tree_scratch_);
      return selected.class_id >= 0 && collector->add(selected.probability, selected.class_id);
    }
    if (rule_.kind == HeadKind::kRegion) {
      // Without a class tree, Darknet's CPU code applies softmax or nothing, never a logistic.
      if (rule_.softmax) {
        softmax(classes, rule_.classes, probabilities_.data());
        classes = probabilities_.data();
      }
      return collector->add_plain(objectness, 1, classes, rule_.classes);
    }
    float factor = 1;
    if (rule_.kind == HeadKind::kGaussianYolo) {  // deviations lower the score
      factor = 1 - (logistic(raw[1]) + logistic(raw[3]) + logistic(raw[5]) + logistic(raw[7])) / 4;
    }
    return rule_.new_coords ? collector->add_plain(objectness, factor, classes, rule_.classes)
                            : collector->add_logistic(objectness, factor, classes, rule_.classes);
  }

  Box box(const float* raw, float column, float row, std::size_t anchor) const noexcept {
    // Each coordinate of [Gaussian_yolo] is followed by its deviation.
    const int step = rule_.kind == HeadKind::kGaussianYolo ? 2 : 1;
    float x = raw[0];
    float y = raw[step];
    float width = raw[2 * step];
    float height = raw[3 * step];
    if (rule_.new_coords) {
      width = width * width * 4;
      height = height * height * 4;
    } else {
      x = logistic(x);
      y = logistic(y);
      width = exponential(width);
      height = exponential(height);
    }
    Box out;
    out.width = width * anchors_[anchor];
    out.height = height * anchors_[anchor + 1];
    out.x = (column + (x * rule_.scale_x_y - offset_)) / columns_;
    out.y = (row + (y * rule_.scale_x_y - offset_)) / rows_;
    if (rule_.center_shift != 0) {  // gaussian_yolo_layer.c:143
      out.x += out.width * rule_.center_shift;
      out.y += out.height * rule_.center_shift;
    }
    return out;
  }

  const HeadRule& rule_;
  const RawHead& head_;
  const float* raw_;
  const DecodeOptions& options_;
  std::int64_t coordinates_;  // numbers before the objectness
  std::int64_t entries_;      // numbers of a box
  float rows_;
  float columns_;
  float offset_;
  std::vector<float> anchors_;        // relative to the input
  std::vector<float> probabilities_;  // scratch memory for the softmax
  std::vector<ClassTree::ClassProbability> tree_scratch_;
};

// YOLO version 1, detection_layer.c:49 and 288: class probabilities of all cells, then confidences,
// then boxes. Channels come first, as Darknet flattens the output of a convolution.
class DetectionHead final : public Head {
 public:
  DetectionHead(const HeadRule& rule, const RawHead& head, const float* raw,
                const DecodeOptions& options)
      : rule_(rule),
        head_(head),
        raw_(raw),
        options_(options),
        confidences_(rule.side * rule.side * rule.classes),
        boxes_(confidences_ + rule.side * rule.side * rule.boxes) {}

  void find_candidates(std::size_t head_index, Candidates* out) override {
    CandidateCollector collector(options_, out);
    std::vector<float> raw(static_cast<std::size_t>(rule_.classes));
    std::vector<float> softmaxed(rule_.softmax ? raw.size() : 0);
    for (std::int64_t cell = 0; cell < rule_.side * rule_.side; ++cell) {
      for (std::int64_t i = 0; i < rule_.classes; ++i) {
        raw[static_cast<std::size_t>(i)] = at(cell * rule_.classes + i);
      }
      if (rule_.softmax) {
        softmax(raw.data(), rule_.classes, softmaxed.data());
      }
      const float* probabilities = rule_.softmax ? softmaxed.data() : raw.data();
      for (std::int64_t i = 0; i < rule_.boxes; ++i) {
        const std::int64_t index = cell * rule_.boxes + i;
        if (collector.add_plain(at(confidences_ + index), 1, probabilities, rule_.classes)) {
          collector.end_box({head_index, index});
        }
      }
    }
  }

  Box box(std::int64_t index) const noexcept override {
    const std::int64_t cell = index / rule_.boxes;
    const auto side = static_cast<float>(rule_.side);
    const std::int64_t first = boxes_ + 4 * index;
    Box out{(at(first) + static_cast<float>(cell % rule_.side)) / side,
            (at(first + 1) + static_cast<float>(cell / rule_.side)) / side, at(first + 2),
            at(first + 3)};
    if (rule_.sqrt_sides) {
      out.width *= out.width;
      out.height *= out.height;
    }
    return out;
  }

 private:
  // The number at `index` of Darknet's flat output.
  float at(std::int64_t index) const noexcept {
    const std::int64_t grid = head_.rows * head_.columns;
    return raw_[index % grid * head_.channels + index / grid];
  }

  const HeadRule& rule_;
  const RawHead& head_;
  const float* raw_;
  const DecodeOptions& options_;
  std::int64_t confidences_;  // index of the first confidence
  std::int64_t boxes_;        // index of the first box
};

}  // namespace

Heads::Heads(const std::vector<HeadRule>& rules, const std::vector<RawHead>& heads,
             std::int64_t image, ImageSize size, const DecodeOptions& options)
    : letter_box_(size, options.input), undo_letter_box_(options.letter_box) {
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const RawHead& head = heads[i];
    const float* raw = head.data + image * head.rows * head.columns * head.channels;
    if (rules[i].kind == HeadKind::kDetection) {
      heads_.push_back(std::make_unique<DetectionHead>(rules[i], head, raw, options));
    } else {
      heads_.push_back(std::make_unique<AnchorHead>(rules[i], head, raw, options));
    }
  }
}

Heads::~Heads() = default;

Candidates Heads::candidates() {
  Candidates candidates;
  for (std::size_t i = 0; i < heads_.size(); ++i) {
    heads_[i]->find_candidates(i, &candidates);
  }
  return candidates;
}

Box Heads::box(const BoxIndex& index) const noexcept {
  Box box = heads_[index.head]->box(index.index);
  if (undo_letter_box_) {
    letter_box_.undo(&box);
  }
  return box;
}

std::int64_t floats_per_image(const HeadRule& rule, std::int64_t rows,
                              std::int64_t columns) noexcept {
  // More than any memory holds; products with small numbers still fit into 64 bits.
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  if (rule.classes < 0 || rule.classes > std::numeric_limits<std::int32_t>::max() ||
      rule.boxes < 1 || rule.boxes > kMost) {
    return -1;
  }
  if (rule.tree != nullptr &&
      (rule.kind != HeadKind::kRegion || rule.tree->classes() != rule.classes)) {
    return -1;
  }
  if (rule.kind == HeadKind::kDetection) {
    const std::int64_t cells = rule.side < 1 ? -1 : product(rule.side, rule.side);
    return product(cells, rule.classes + 5 * rule.boxes);
  }
  if (static_cast<std::int64_t>(rule.anchors.size()) != 2 * rule.boxes) {
    return -1;
  }
  return product(product(rows, columns),
                 product(rule.boxes, coordinate_count(rule.kind) + 1 + rule.classes));
}

}  // namespace yolotf
