// A folder for a test's files.
#ifndef YOLOTF_TESTS_CSRC_FOLDER_H_
#define YOLOTF_TESTS_CSRC_FOLDER_H_

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "testing.h"

namespace yolotf {

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/core_test.XXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~Folder() {
    for (const std::string& path : files_) {
      unlink(path.c_str());
    }
    rmdir(path_.c_str());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }

  std::string name(const std::string& name) {
    files_.push_back(path_ + "/" + name);
    return files_.back();
  }

  std::string file(const std::string& content) {
    const std::string path = name("file" + std::to_string(files_.size()));
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
    REQUIRE(write(descriptor, content.data(), content.size()) ==
            static_cast<ssize_t>(content.size()));
    close(descriptor);
    return path;
  }

 private:
  std::string path_;
  std::vector<std::string> files_;
};

}  // namespace yolotf

#endif  // YOLOTF_TESTS_CSRC_FOLDER_H_
