#include "detect/suppression.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace yolotf {
namespace {

constexpr float kGreedyBeta = 0.6F;  // fixed in box_diou, box.c:206, whatever beta_nms says

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

}  // namespace

std::vector<KeptBox> suppress(Candidates* candidates, const Heads& heads,
                              const DecodeOptions& options) {
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
    const Box box = heads.box(candidates->boxes[candidate->box]);
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

}  // namespace yolotf
