// Class trees of [region], which give a box its class. Uses only the standard library.
#ifndef YOLOTF_CSRC_DETECT_CLASS_TREE_H_
#define YOLOTF_CSRC_DETECT_CLASS_TREE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace yolotf {

/// A tree of classes, as the file of `tree=` describes it (tree.c).
class ClassTree {
 public:
  struct ClassProbability {
    std::int64_t class_id = -1;
    float probability = 0;  // absolute: multiplied by those of all classes above
  };

  /// parents: the class above each class, with a lower index; -1 for a root.
  /// group_sizes: the classes in order are divided into groups of these sizes; the classes of a
  /// group have the same parent and share a softmax.
  /// Throws std::invalid_argument unless the arguments describe a tree.
  ClassTree(const std::vector<std::int64_t>& parents, const std::vector<std::int64_t>& group_sizes);

  std::int64_t classes() const noexcept { return classes_; }

  /// Returns the last class whose probability is above 0.5; class_id is -1 if there is none
  /// (get_region_boxes, region_layer.c:379-420; hierarchy_predictions, tree.c:37).
  /// logits: the raw output of each class, of any value; scratch: memory to reuse.
  ClassProbability last_above_half(const float* logits,
                                   std::vector<ClassProbability>* scratch) const;

 private:
  struct Group {  // classes `begin` to `end` - 1
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };

  std::int64_t classes_;
  std::vector<Group> groups_;  // sorted by parent
  // The groups below class i are groups_[first_group_[i + 1]] up to, not including,
  // groups_[first_group_[i + 2]]. Class -1 stands above the roots.
  std::vector<std::size_t> first_group_;
};

}  // namespace yolotf

#endif  // YOLOTF_CSRC_DETECT_CLASS_TREE_H_
