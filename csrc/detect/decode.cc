#include "detect/decode.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <tuple>

#include "base/parallel.h"
#include "detect/heads.h"
#include "detect/suppression.h"

namespace yolotf {
namespace {

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

std::vector<Detection> detect(const std::vector<HeadRule>& rules, const std::vector<RawHead>& heads,
                              std::int64_t image, ImageSize size, const DecodeOptions& options) {
  Heads decoder(rules, heads, image, size, options);
  Candidates candidates = decoder.candidates();
  std::vector<KeptBox> kept = suppress(&candidates, decoder, options);
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
