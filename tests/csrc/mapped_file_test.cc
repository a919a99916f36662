#include "weights/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>

#include "folder.h"
#include "testing.h"

#if defined(__linux__) && !defined(MADV_POPULATE_READ)
#define MADV_POPULATE_READ 22
#endif

TEST_SUITE_BEGIN("mapped_file");

namespace yolotf {
namespace {

// Whether this system grants a lease and populates mappings, tested without MappedFile.
bool mapping_is_safe(const std::string& path) {
#if defined(F_SETLEASE) && defined(MADV_POPULATE_READ)
  const int descriptor = ::open(path.c_str(), O_RDONLY);
  const bool leased = fcntl(descriptor, F_SETLEASE, F_RDLCK) == 0;
  void* page = mmap(nullptr, 1, PROT_READ, MAP_SHARED, descriptor, 0);
  const bool populated = page != MAP_FAILED && madvise(page, 1, MADV_POPULATE_READ) == 0;
  munmap(page, 1);
  close(descriptor);
  return leased && populated;
#else
  (void)path;
  return false;
#endif
}

bool has_content(const MappedFile& file, const std::string& content) {
  return file.size() == content.size() && file.bytes() != nullptr &&
         std::memcmp(file.bytes(), content.data(), content.size()) == 0;
}

const std::string& content() {
  static const std::string text = [] {
    std::string long_text;
    for (int i = 0; i < 5000; ++i) {
      long_text += std::to_string(i);
    }
    return long_text;
  }();
  return text;
}

// Ends the process if the test hangs.
class Deadline {
 public:
  Deadline() { alarm(20); }
  ~Deadline() { alarm(0); }
};

// A child process that runs `work`; wait() returns its result.
class Child {
 public:
  explicit Child(const std::function<bool()>& work) : process_(fork()) {
    REQUIRE(process_ >= 0);
    if (process_ == 0) {
      alarm(20);
      _exit(work() ? 0 : 1);
    }
  }
  ~Child() {
    if (process_ > 0) {
      kill(process_, SIGKILL);
      waitpid(process_, nullptr, 0);
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  bool wait() {
    int status = -1;
    while (waitpid(process_, &status, 0) < 0 && errno == EINTR) {
    }
    process_ = -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  bool running() const {
    siginfo_t info = {};
    return waitid(P_PID, static_cast<id_t>(process_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
  }

 private:
  pid_t process_;
};

void sleep_ms(unsigned milliseconds) { usleep(1000 * milliseconds); }

TEST_CASE("a file that no process writes is mapped") {
  Folder folder;
  const std::string path = folder.file(content());
  MappedFile file;
  FileError error;
  REQUIRE(file.open(path.c_str(), &error));
  CHECK(file.bytes() == nullptr);
  REQUIRE(file.read_all(&error));
  CHECK(error.code == FileCode::kOk);
  CHECK(has_content(file, content()));
  CHECK(file.unchanged());
  CHECK(file.mapped() == mapping_is_safe(folder.file(content())));
  REQUIRE(file.read_all(&error));  // does nothing
}

TEST_CASE("a file is populated in parts") {
  for (const bool open_for_writing : {false, true}) {
    Folder folder;
    std::string large;
    while (large.size() < 300000) {
      large += content();
    }
    const std::string path = folder.file(large);
    const int writer = open_for_writing ? ::open(path.c_str(), O_WRONLY) : -1;
    MappedFile file;
    FileError error;
    REQUIRE(file.open(path.c_str(), &error));
    REQUIRE(file.map_or_copy(&error));
    REQUIRE(file.map_or_copy(&error));
    REQUIRE(file.begins_with(large.data(), 20, &error));
    REQUIRE(file.mapped() == (!open_for_writing && mapping_is_safe(folder.file(content()))));
    for (std::uint64_t begin = 0; begin < large.size(); begin += 5000) {
      const std::uint64_t end = std::min<std::uint64_t>(large.size(), begin + 5000);
      REQUIRE(file.populate(begin, end, &error));
      REQUIRE(std::memcmp(file.bytes() + begin, large.data() + begin, end - begin) == 0);
    }
    REQUIRE(file.populate(7, 7, &error));
    REQUIRE(error.code == FileCode::kOk);
    REQUIRE(has_content(file, large));
    REQUIRE(file.unchanged());
    if (writer >= 0) {
      close(writer);
    }
  }
}

TEST_CASE("prefer_huge_pages changes no contents") {
  std::vector<float> floats(100000, 3.0F);
  for (const std::uint64_t shift : {0U, 1U, 17U}) {
    prefer_huge_pages(floats.data() + shift, 4 * (floats.size() - shift));
  }
  prefer_huge_pages(floats.data(), 4);
  prefer_huge_pages(nullptr, 0);
  CHECK(floats == std::vector<float>(100000, 3.0F));
}

TEST_CASE("a file that is open for writing is copied") {
  Folder folder;
  const std::string path = folder.file(content());
  const int writer = ::open(path.c_str(), O_WRONLY);
  MappedFile file;
  FileError error;
  REQUIRE(file.open(path.c_str(), &error));
  REQUIRE(file.read_all(&error));
  CHECK(!file.mapped());
  CHECK(has_content(file, content()));
  // A change is noticed, but not in the copy.
  CHECK(file.unchanged());
  REQUIRE(write(writer, "x", 1) == 1);
  CHECK(!file.unchanged());
  CHECK(has_content(file, content()));
  REQUIRE(ftruncate(writer, 0) == 0);
  CHECK(has_content(file, content()));
  close(writer);
}

TEST_CASE("a file that changed after it was opened is refused") {
  for (const bool open_for_writing : {false, true}) {
    for (const int change : {0, 1, 2}) {
      Folder folder;
      const std::string path = folder.file(content());
      MappedFile file;
      FileError error;
      REQUIRE(file.open(path.c_str(), &error));
      sleep_ms(15);  // longer than the clock of coarse time stamps
      const int writer = ::open(path.c_str(), O_WRONLY);
      const auto size = static_cast<off_t>(content().size());
      REQUIRE((change == 0   ? pwrite(writer, "x", 1, 10) == 1
               : change == 1 ? ftruncate(writer, size - 1) == 0
                             : ftruncate(writer, size + 1) == 0));
      if (!open_for_writing) {
        close(writer);
      }
      REQUIRE(!file.unchanged());
      REQUIRE(!file.read_all(&error));
      REQUIRE(error.code == FileCode::kChanged);
      if (open_for_writing) {
        close(writer);
      }
    }
  }
}

TEST_CASE("a replaced file is still the one that was opened") {
  Folder folder;
  const std::string path = folder.file(content());
  const std::string other = folder.file("other");
  MappedFile file;
  FileError error;
  REQUIRE(file.open(path.c_str(), &error));
  REQUIRE(rename(other.c_str(), path.c_str()) == 0);
  REQUIRE(file.read_all(&error));
  CHECK(has_content(file, content()));
  CHECK(file.unchanged());
}

TEST_CASE("begins_with compares with the bytes of the file") {
  Folder folder;
  const std::string path = folder.file("0123456789");
  MappedFile file;
  FileError error;
  REQUIRE(file.open(path.c_str(), &error));
  REQUIRE(file.read_all(&error));
  CHECK(file.begins_with("", 0, &error));
  CHECK(file.begins_with("0123456789", 10, &error));
  CHECK(error.code == FileCode::kOk);
  CHECK(!file.begins_with("01234x", 6, &error));
  CHECK(error.code == FileCode::kChanged);
  CHECK(!file.begins_with("0123456789a", 11, &error));
  MappedFile empty;
  REQUIRE(empty.open(folder.file("").c_str(), &error));
  REQUIRE(empty.read_all(&error));
  CHECK(empty.begins_with("", 0, &error));
  CHECK(!empty.begins_with("0", 1, &error));
}

TEST_CASE("an empty file has no bytes") {
  Folder folder;
  const std::string path = folder.file("");
  MappedFile file;
  FileError error;
  REQUIRE(file.open(path.c_str(), &error));
  REQUIRE(file.size() == 0);
  REQUIRE(file.read_all(&error));
  CHECK(file.bytes() == nullptr);
  CHECK(!file.mapped());
  CHECK(file.unchanged());
  std::byte byte;
  std::uint64_t read_bytes = 9;
  REQUIRE(file.read_at(0, 1, &byte, &read_bytes, &error));
  CHECK(read_bytes == 0);
}

TEST_CASE("what is not a regular file is refused without waiting") {
  const Deadline deadline;
  Folder folder;
  const std::string fifo = folder.name("fifo");
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  struct Case {
    std::string path;
    FileCode code;
    int system_error;
  };
  const std::string missing = folder.path() + "/missing";
  const std::string below = folder.file("x") + "/below";
  for (const Case& test :
       {Case{folder.path(), FileCode::kNotRegular, EISDIR}, Case{fifo, FileCode::kNotRegular, 0},
        Case{"/dev/zero", FileCode::kNotRegular, 0}, Case{missing, FileCode::kSystem, ENOENT},
        Case{"", FileCode::kSystem, ENOENT}, Case{below, FileCode::kSystem, ENOTDIR}}) {
    MappedFile file;
    FileError error;
    REQUIRE(!file.open(test.path.c_str(), &error));
    REQUIRE(error.code == test.code);
    REQUIRE(error.system_error == test.system_error);
  }
}

TEST_CASE("reading stops at the end of the file") {
  Folder folder;
  const std::string path = folder.file(content());
  MappedFile file;
  FileError error;
  REQUIRE(file.open(path.c_str(), &error));
  for (const std::uint64_t offset :
       {std::uint64_t{0}, std::uint64_t{7}, file.size() - 3, file.size(), file.size() + 100}) {
    const Bytes bytes(10);
    std::uint64_t read_bytes = 99;
    REQUIRE(file.read_at(offset, 10, bytes.data(), &read_bytes, &error));
    const std::uint64_t remaining = offset < file.size() ? file.size() - offset : 0;
    REQUIRE(read_bytes == std::min<std::uint64_t>(10, remaining));
    REQUIRE(std::memcmp(bytes.data(), content().data() + std::min(offset, file.size()),
                        read_bytes) == 0);
  }
}

volatile sig_atomic_t signals = 0;

TEST_CASE("writers wait while the file is mapped") {
  const Deadline deadline;
  // The kernel's signal to the holder of the lease must not reach the program.
  signals = 0;
  for (const int number : {SIGIO, SIGURG}) {
    signal(number, [](int) { signals = signals + 1; });
  }
  // 0: open; 1: open with truncation; 2: truncate without open.
  for (const int method : {0, 1, 2}) {
    Folder folder;
    const std::string path = folder.file(content());
    int started[2];
    REQUIRE(pipe(started) == 0);
    auto file = std::make_unique<MappedFile>();
    FileError error;
    REQUIRE(file->open(path.c_str(), &error));
    REQUIRE(file->read_all(&error));
    Child writer([&] {
      bool done = write(started[1], "x", 1) == 1;
      if (method == 2) {
        return done && truncate(path.c_str(), 3) == 0;
      }
      const int descriptor = ::open(path.c_str(), O_WRONLY | (method == 1 ? O_TRUNC : 0));
      done = done && descriptor >= 0 && pwrite(descriptor, "changed", 7, 0) == 7;
      close(descriptor);
      return done;
    });
    char byte;
    REQUIRE(read(started[0], &byte, 1) == 1);
    sleep_ms(50);
    if (file->mapped()) {
      REQUIRE(writer.running());
      REQUIRE(file->unchanged());
    }
    REQUIRE(has_content(*file, content()));
    file = std::make_unique<MappedFile>();
    REQUIRE(writer.wait());
    REQUIRE(file->open(path.c_str(), &error));
    REQUIRE(file->size() == (method == 0 ? content().size() : method == 1 ? 7 : 3));
    REQUIRE(file->read_all(&error));
    REQUIRE(!has_content(*file, content()));
    close(started[0]);
    close(started[1]);
  }
  CHECK(signals == 0);
  signal(SIGIO, SIG_DFL);
  signal(SIGURG, SIG_DFL);
}

TEST_CASE("a child process does not prolong the lease") {
  const Deadline deadline;
  Folder folder;
  const std::string path = folder.file(content());
  auto file = std::make_unique<MappedFile>();
  FileError error;
  REQUIRE(file->open(path.c_str(), &error));
  REQUIRE(file->read_all(&error));
  Child heir([] {
    sleep_ms(10000);
    return true;
  });
  file.reset();
  const auto start = std::chrono::steady_clock::now();
  const int writer = ::open(path.c_str(), O_WRONLY);
  REQUIRE(writer >= 0);
  close(writer);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
}

}  // namespace
}  // namespace yolotf

TEST_SUITE_END();
