#include "detect/class_tree.h"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

namespace yolotf {
namespace {

constexpr float kThreshold = 0.5F;  // region_layer.c:413

std::string text(std::int64_t number) { return std::to_string(number); }

std::invalid_argument invalid(const std::string& reason) {
  return std::invalid_argument("class tree: " + reason);
}

// Returns the most probable class of the group `begin` to `end`, with its softmax probability times
// `parent_probability`. The probability is exact only if it is above the threshold: the sum stops
// as soon as that is impossible.
ClassTree::ClassProbability most_probable(const float* logits, std::int64_t begin, std::int64_t end,
                                          float parent_probability) {
  ClassTree::ClassProbability best{begin, 0};
  float largest = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = begin; i < end; ++i) {
    if (logits[i] > largest) {
      largest = logits[i];
      best.class_id = i;
    }
  }
  // From this sum on, the probability is below the threshold, whatever the rounding.
  const double enough = 1.001 * static_cast<double>(parent_probability / kThreshold);
  double sum = 0;
  for (std::int64_t i = begin; i < end && sum < enough; ++i) {  // ends at NaN, too
    sum += std::exp(static_cast<double>(logits[i] - largest));
  }
  best.probability = static_cast<float>(1 / sum) * parent_probability;
  return best;
}

}  // namespace

ClassTree::ClassTree(const std::vector<std::int64_t>& parents,
                     const std::vector<std::int64_t>& group_sizes)
    : classes_(static_cast<std::int64_t>(parents.size())), first_group_(parents.size() + 2) {
  const auto parent = [&](std::int64_t i) { return parents[static_cast<std::size_t>(i)]; };
  for (std::int64_t i = 0; i < classes_; ++i) {
    if (parent(i) < -1 || parent(i) >= i) {
      throw invalid("class " + text(i) + " has parent " + text(parent(i)) +
                    "; a parent must be a class of a lower index, or -1 for a root");
    }
  }
  std::int64_t begin = 0;
  for (const std::int64_t size : group_sizes) {
    if (size < 1 || size > classes_ - begin) {
      throw invalid("the group at class " + text(begin) + " has " + text(size) +
                    " classes; it must have at least 1, and " + text(classes_ - begin) + " remain");
    }
    for (std::int64_t i = begin; i < begin + size; ++i) {
      if (parent(i) != parent(begin)) {
        throw invalid("classes " + text(begin) + " and " + text(i) +
                      " of a group have different parents, " + text(parent(begin)) + " and " +
                      text(parent(i)));
      }
    }
    ++first_group_[static_cast<std::size_t>(parent(begin) + 2)];
    begin += size;
  }
  if (begin != classes_) {
    throw invalid("the groups have " + text(begin) + " classes, the tree has " + text(classes_));
  }
  // Sorts the groups by parent: counting sort.
  for (std::size_t i = 1; i < first_group_.size(); ++i) {
    first_group_[i] += first_group_[i - 1];
  }
  std::vector<std::size_t> next = first_group_;
  groups_.resize(group_sizes.size());
  begin = 0;
  for (const std::int64_t size : group_sizes) {
    groups_[next[static_cast<std::size_t>(parent(begin) + 1)]++] = {begin, begin + size};
    begin += size;
  }
}

ClassTree::ClassProbability ClassTree::last_above_half(
    const float* logits, std::vector<ClassProbability>* scratch) const {
  ClassProbability last;
  scratch->assign(1, {-1, 1});  // the classes whose groups are still to be searched
  while (!scratch->empty()) {
    const ClassProbability parent = scratch->back();
    scratch->pop_back();
    const auto index = static_cast<std::size_t>(parent.class_id + 1);
    for (std::size_t i = first_group_[index]; i < first_group_[index + 1]; ++i) {
      const ClassProbability best =
          most_probable(logits, groups_[i].begin, groups_[i].end, parent.probability);
      // Classes below a class are no more probable than that class.
      if (best.probability > kThreshold) {
        last = best.class_id > last.class_id ? best : last;
        scratch->push_back(best);
      }
    }
  }
  return last;
}

}  // namespace yolotf
