// Class trees of [region]: which one class a box is of. The standard library, nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace yolotf {

/// Classes, each below another or a root, as the file that `tree=` names has them (tree.c).
class ClassTree {
 public:
  // A class and how likely it is, with all above it.
  struct Share {
    std::int64_t class_id = -1;
    float probability = 0;
  };

  /// parents: the class above each, which comes before it; -1 for roots. groups: sizes of the runs
  /// of classes with one parent, all classes in them, each run a softmax of its own.
  /// Throws std::invalid_argument, in a sentence, for any others: no index is looked at again.
  ClassTree(const std::vector<std::int64_t>& parents, const std::vector<std::int64_t>& groups);

  std::int64_t classes() const noexcept { return classes_; }

  /// The last class that is above a half, class_id -1 if none is (get_region_boxes,
  /// region_layer.c:379-420; hierarchy_predictions, tree.c:37).
  /// numbers: a raw one for each class; any, NaN too. waiting: memory to be used again.
  Share last_likely(const float* numbers, std::vector<Share>* waiting) const;

 private:
  struct Run {  // classes with one parent, from and to
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };

  std::int64_t classes_;
  std::vector<Run> runs_;            // by parent
  std::vector<std::size_t> starts_;  // where the runs below class i - 1 start in `runs_`
};

}  // namespace yolotf
