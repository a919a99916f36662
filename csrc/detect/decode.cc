#include "detect/decode.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <numeric>
#include <tuple>
#include <utility>

#include "base/parallel.h"
#include "base/product.h"

namespace yolotf {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kGreedyBeta = 0.6F;  // fixed in box_diou, box.c:206, whatever beta_nms says

// As in Darknet: center and sides, relative to the input or the image.
struct Box {
  float x = 0;
  float y = 0;
  float width = 0;
  float height = 0;
};

// A box whose score in a class is above the threshold.
struct Candidate {
  float score = 0;
  std::int32_t class_id = 0;
  std::size_t box = 0;  // index in Candidates::boxes
};

// Where a box is in the raw heads. Its sides are decoded only if its scores are high enough.
struct BoxIndex {
  std::size_t head = 0;
  std::int64_t index = 0;  // by row, column, anchor
};

struct Candidates {
  // Boxes that have a candidate. For Order::kHankAi, all with an objectness above the threshold.
  std::vector<BoxIndex> boxes;
  std::vector<Candidate> all;  // in Darknet's order: by box, then class
};

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

// A head with anchors: yolo_layer.c:131 and 1103, gaussian_yolo_layer.c:134, region_layer.c:86.
class AnchorHead : public Head {
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
class DetectionHead : public Head {
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

// Converts boxes relative to a letter-boxed input to boxes relative to the image
// (yolo_layer.c:939).
class LetterBox {
 public:
  LetterBox(ImageSize image, ImageSize input) noexcept
      : full_width_(static_cast<float>(input.width)),
        full_height_(static_cast<float>(input.height)) {
    const bool wide = full_width_ / static_cast<float>(image.width) <
                      full_height_ / static_cast<float>(image.height);
    const auto at_least_one = [](std::int64_t side) { return std::max<std::int64_t>(1, side); };
    width_ = static_cast<float>(wide ? input.width
                                     : at_least_one(image.width * input.height / image.height));
    height_ = static_cast<float>(wide ? at_least_one(image.height * input.width / image.width)
                                      : input.height);
  }

  void undo(Box* box) const noexcept {
    const float across = width_ / full_width_;
    const float down = height_ / full_height_;
    box->x = (box->x - (full_width_ - width_) / 2 / full_width_) / across;
    box->y = (box->y - (full_height_ - height_) / 2 / full_height_) / down;
    box->width /= across;
    box->height /= down;
  }

 private:
  float full_width_;
  float full_height_;
  float width_;
  float height_;
};

// What the overlap of boxes is computed from.
struct Edges {
  explicit Edges(const Box& box) noexcept
      : left(box.x - box.width / 2),
        right(box.x + box.width / 2),
        top(box.y - box.height / 2),
        bottom(box.y + box.height / 2),
        area(box.width * box.height),
        x(box.x),
        y(box.y) {}

  float left;
  float right;
  float top;
  float bottom;
  float area;
  float x;
  float y;
};

// Whether box_iou, box_diou or box_diounms (box.c:163-230) of two boxes is above
// `options.iou_threshold`.
bool suppresses(const Edges& a, const Edges& b, const DecodeOptions& options) noexcept {
  const float across = std::min(a.right, b.right) - std::max(a.left, b.left);
  const float down = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  const float intersection = across > 0 && down > 0 ? across * down : 0;
  const float box_union = a.area + b.area - intersection;
  const float iou = box_union == 0 ? 0 : intersection / box_union;
  // The other kinds subtract from the IoU.
  if (options.suppression == SuppressionKind::kDefault || !(iou > options.iou_threshold)) {
    return iou > options.iou_threshold;
  }
  const float width = std::max(a.right, b.right) - std::min(a.left, b.left);
  const float height = std::max(a.bottom, b.bottom) - std::min(a.top, b.top);
  const float diagonal = width * width + height * height;
  const float distance = (a.x - b.x) * (a.x - b.x) + (a.y - b.y) * (a.y - b.y);
  const float relative_distance = diagonal == 0 ? 0 : distance / diagonal;
  const bool greedy = options.suppression == SuppressionKind::kGreedyNms;
  return iou - std::pow(relative_distance, greedy ? kGreedyBeta : options.beta) >
         options.iou_threshold;
}

// Best first; equal scores in the order of the candidates.
bool is_before(const Candidate& a, const Candidate& b) noexcept {
  if (a.score != b.score) {
    return a.score > b.score;
  }
  return a.box != b.box ? a.box < b.box : a.class_id < b.class_id;
}

// Sorts candidates as far as they are requested.
class CandidateQueue {
 public:
  explicit CandidateQueue(std::vector<Candidate>* candidates) : candidates_(*candidates) {}

  // Returns the next candidate; null after the last one.
  const Candidate* next() {
    if (next_ == sorted_) {
      if (sorted_ == candidates_.size()) {
        return nullptr;
      }
      const auto position = [this](std::size_t index) {
        return candidates_.begin() + static_cast<std::ptrdiff_t>(index);
      };
      const std::size_t end = std::min(candidates_.size(), sorted_ + step_);
      std::nth_element(position(sorted_), position(end - 1), candidates_.end(), is_before);
      std::sort(position(sorted_), position(end - 1), is_before);
      sorted_ = end;
      step_ *= 2;  // so that sorting all in steps takes little longer than sorting them at once
    }
    return &candidates_[next_++];
  }

 private:
  std::vector<Candidate>& candidates_;
  std::size_t next_ = 0;
  std::size_t sorted_ = 0;
  std::size_t step_ = 512;
};

struct KeptBox {
  Candidate candidate;
  Box box;
};

// Greedy non-maximum suppression, for each class: keeps the best box, drops the boxes that it
// suppresses, and so on (do_nms_sort, box.c:812, and diounms_sort, box.c:868). Returns the kept
// boxes, best first.
template <typename BoxOf>
std::vector<KeptBox> suppress(Candidates* candidates, const DecodeOptions& options,
                              const BoxOf& box_of) {
  std::int32_t highest_class = 0;
  for (const Candidate& candidate : candidates->all) {
    highest_class = std::max(highest_class, candidate.class_id);
  }
  const std::size_t classes = options.agnostic ? 1 : static_cast<std::size_t>(highest_class) + 1;
  // The kept boxes of each class as a linked list of indices in `kept`, the last one first.
  constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> last_of_class(classes, kNone);
  std::vector<std::size_t> previous;
  std::vector<KeptBox> kept;
  std::vector<Edges> edges;  // of each of `kept`
  CandidateQueue queue(&candidates->all);
  while (static_cast<std::int64_t>(kept.size()) < options.max_boxes) {
    const Candidate* candidate = queue.next();
    if (candidate == nullptr) {
      break;
    }
    std::size_t& last =
        last_of_class[options.agnostic ? 0 : static_cast<std::size_t>(candidate->class_id)];
    const Box box = box_of(candidates->boxes[candidate->box]);
    const Edges box_edges(box);
    std::size_t other = last;
    while (other != kNone && !suppresses(edges[other], box_edges, options)) {
      other = previous[other];
    }
    if (other == kNone) {
      previous.push_back(last);
      last = kept.size();
      kept.push_back({*candidate, box});
      edges.push_back(box_edges);
    }
  }
  return kept;
}

// Returns the position of each box of `candidates` in the order of `options.order`'s Darknet.
std::vector<std::size_t> positions_in_darknet(const Candidates& candidates,
                                              const std::vector<HeadRule>& rules,
                                              const DecodeOptions& options) {
  const std::vector<BoxIndex>& boxes = candidates.boxes;
  std::vector<std::size_t> order(boxes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::int64_t classes = 0;
  for (const HeadRule& rule : rules) {
    classes = std::max(classes, rule.classes);
  }
  std::vector<std::vector<const Candidate*>> by_class(static_cast<std::size_t>(classes));
  for (const Candidate& candidate : candidates.all) {
    by_class[static_cast<std::size_t>(candidate.class_id)].push_back(&candidate);
  }
  const bool hank_ai = options.order == Order::kHankAi;
  if (hank_ai) {
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      const std::int64_t anchor_a = boxes[a].index % rules[boxes[a].head].boxes;
      const std::int64_t anchor_b = boxes[b].index % rules[boxes[b].head].boxes;
      return std::tie(boxes[a].head, anchor_a) < std::tie(boxes[b].head, anchor_b);
    });
  }
  std::vector<float> scores(boxes.size());  // in the class of the current sort
  const auto is_better = [&](std::size_t a, std::size_t b) { return scores[b] < scores[a]; };
  for (const std::vector<const Candidate*>& of_class : by_class) {
    for (const Candidate* candidate : of_class) {
      scores[candidate->box] = candidate->score;
    }
    if (hank_ai) {
      // Not stable: it changes the order of equal scores, even if no box is of this class.
      std::sort(order.begin(), order.end(), is_better);
    } else if (!of_class.empty()) {
      std::stable_sort(order.begin(), order.end(), is_better);
    }
    for (const Candidate* candidate : of_class) {
      scores[candidate->box] = 0;
    }
  }
  std::vector<std::size_t> positions(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    positions[order[i]] = i;
  }
  return positions;
}

// Converts to pixels. Edges that are not finite become the image's.
Detection to_detection(const Box& box, ImageSize image) noexcept {
  const auto width = static_cast<float>(image.width);
  const auto height = static_cast<float>(image.height);
  const float half_width = box.width * width / 2;
  const float half_height = box.height * height / 2;
  const auto finite = [](float edge, float image_edge) {
    return std::isfinite(edge) ? edge : image_edge;
  };
  Detection out;
  out.left = finite(box.x * width - half_width, 0);
  out.top = finite(box.y * height - half_height, 0);
  out.right = finite(box.x * width + half_width, width);
  out.bottom = finite(box.y * height + half_height, height);
  return out;
}

}  // namespace

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

std::vector<Detection> detect(const std::vector<HeadRule>& rules, const std::vector<RawHead>& heads,
                              std::int64_t image, ImageSize size, const DecodeOptions& options) {
  Candidates candidates;
  std::vector<std::unique_ptr<Head>> decoders;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const RawHead& head = heads[i];
    const float* raw = head.data + image * head.rows * head.columns * head.channels;
    if (rules[i].kind == HeadKind::kDetection) {
      decoders.push_back(std::make_unique<DetectionHead>(rules[i], head, raw, options));
    } else {
      decoders.push_back(std::make_unique<AnchorHead>(rules[i], head, raw, options));
    }
    decoders.back()->find_candidates(i, &candidates);
  }
  const LetterBox letter_box(size, options.input);
  const auto box_of = [&](const BoxIndex& index) {
    Box box = decoders[index.head]->box(index.index);
    if (options.letter_box) {
      letter_box.undo(&box);
    }
    return box;
  };
  std::vector<KeptBox> kept = suppress(&candidates, options, box_of);
  if (options.order != Order::kScore) {
    const std::vector<std::size_t> positions = positions_in_darknet(candidates, rules, options);
    std::sort(kept.begin(), kept.end(), [&](const KeptBox& a, const KeptBox& b) {
      return std::tie(positions[a.candidate.box], a.candidate.class_id) <
             std::tie(positions[b.candidate.box], b.candidate.class_id);
    });
  }
  std::vector<Detection> detections;
  for (const KeptBox& box : kept) {
    detections.push_back(to_detection(box.box, size));
    detections.back().score = box.candidate.score;
    detections.back().class_id = box.candidate.class_id;
  }
  return detections;
}

std::vector<std::vector<Detection>> detect_all(const std::vector<HeadRule>& rules,
                                               const std::vector<RawHead>& heads,
                                               const std::vector<ImageSize>& sizes,
                                               const DecodeOptions& options, int threads) {
  std::vector<std::vector<Detection>> detections(sizes.size());
  run_tasks(sizes.size(), threads, [&](std::size_t i) {
    detections[i] = detect(rules, heads, static_cast<std::int64_t>(i), sizes[i], options);
  });
  return detections;
}

}  // namespace yolotf
