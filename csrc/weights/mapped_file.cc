#ifndef _GNU_SOURCE
#define _GNU_SOURCE  // F_SETLEASE, F_SETSIG
#endif
#include "weights/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#if defined(__linux__) && !defined(MADV_POPULATE_READ)
#define MADV_POPULATE_READ 22  // Linux 5.14; headers may be older than the kernel
#endif

namespace yolotf {
namespace {

constexpr std::uint64_t kReadBytes = 8 << 20;

bool fail(FileError* error, FileCode code, int system_error = 0) noexcept {
  error->code = code;
  error->system_error = system_error;
  return false;
}

[[maybe_unused]] std::uint64_t page_bytes() noexcept {
  static const long size = sysconf(_SC_PAGESIZE);  // 64 KB on some machines
  return size > 0 ? static_cast<std::uint64_t>(size) : 4096;
}

timespec modification_time(const struct stat& status) noexcept {
#ifdef __APPLE__
  return status.st_mtimespec;
#else
  return status.st_mtim;
#endif
}

}  // namespace

void prefer_huge_pages(void* memory, std::uint64_t size) noexcept {
#ifdef MADV_HUGEPAGE
  constexpr std::uint64_t kLeastBytes = 64 << 10;  // smaller arrays share huge pages with others
  if (size >= kLeastBytes) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    const std::uintptr_t begin = address / page_bytes() * page_bytes();
    const std::uintptr_t end = (address + size + page_bytes() - 1) / page_bytes() * page_bytes();
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
  }
#else
  (void)memory;
  (void)size;
#endif
}

MappedFile::~MappedFile() {
  guard_.end();
  if (bytes_ != nullptr) {
    munmap(bytes_, size_);
  }
#ifdef F_SETLEASE
  if (leased_) {
    // Explicitly: a child forked meanwhile shares the descriptor, so close() would not release it.
    fcntl(descriptor_, F_SETLEASE, F_UNLCK);
  }
#endif
  if (descriptor_ >= 0) {
    close(descriptor_);
  }
}

bool MappedFile::open(const char* path, FileError* error) noexcept {
  // O_NONBLOCK: open() of a FIFO without a writer would block forever.
  do {
    descriptor_ = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (descriptor_ < 0 && errno == EINTR);
  struct stat status;
  if (descriptor_ < 0 || fstat(descriptor_, &status) != 0) {
    return fail(error, FileCode::kSystem, errno);
  }
  if (!S_ISREG(status.st_mode)) {
    return fail(error, FileCode::kNotRegular, S_ISDIR(status.st_mode) ? EISDIR : 0);
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
  modified_ = modification_time(status);
  return true;
}

bool MappedFile::read_at(std::uint64_t offset, std::uint64_t size, std::byte* bytes,
                         std::uint64_t* read_bytes, FileError* error) const noexcept {
  std::uint64_t done = 0;
  while (done < size) {
    const ssize_t count = pread(descriptor_, bytes + done, std::min(size - done, kReadBytes),
                                static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return fail(error, FileCode::kSystem, errno);
    }
    if (count == 0) {
      break;
    }
    done += static_cast<std::uint64_t>(count);
  }
  *read_bytes = done;
  return true;
}

bool MappedFile::unchanged() const noexcept {
  struct stat status;
  if (fstat(descriptor_, &status) != 0) {
    return false;
  }
  // A write or truncation changes the size or the time; a rename or chmod changes neither.
  const timespec modified = modification_time(status);
  return static_cast<std::uint64_t>(status.st_size) == size_ &&
         modified.tv_sec == modified_.tv_sec && modified.tv_nsec == modified_.tv_nsec;
}

bool MappedFile::check_intact(FileError* error) const noexcept {
  if (mapped_ && !unchanged()) {
    return fail(error, FileCode::kChanged);  // the kernel has broken the lease
  }
  return !guard_.lost() || fail(error, FileCode::kSystem, EIO);
}

bool MappedFile::take_lease() noexcept {
#if defined(F_SETLEASE) && defined(MADV_POPULATE_READ)
  // When another process wants to write, the kernel signals the holder of the lease, by default
  // with SIGIO, which ends the process. SIGURG is ignored by default, and not sent without an
  // owner.
  if (fcntl(descriptor_, F_SETSIG, SIGURG) != 0 || fcntl(descriptor_, F_SETLEASE, F_RDLCK) != 0) {
    return false;
  }
  leased_ = true;
  fcntl(descriptor_, F_SETOWN, 0);
  return true;
#else
  return false;
#endif
}

bool MappedFile::map(std::uint64_t populated_bytes) noexcept {
  void* mapping = mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor_, 0);
  if (mapping == MAP_FAILED) {
    return false;
  }
  if (!guard_.begin(mapping, size_)) {
    munmap(mapping, size_);
    return false;
  }
  madvise(mapping, size_, MADV_SEQUENTIAL);
  bytes_ = static_cast<std::byte*>(mapping);
  mapped_ = true;
  FileError error;
  if (!populate(0, populated_bytes, &error)) {
    guard_.end();
    munmap(bytes_, size_);
    bytes_ = nullptr;
    mapped_ = false;
    return false;
  }
  return true;
}

bool MappedFile::populate(std::uint64_t begin, std::uint64_t end, FileError* error) noexcept {
#ifdef MADV_POPULATE_READ
  if (mapped_ && begin < end) {
    begin = begin / page_bytes() * page_bytes();
    int populated;
    do {
      populated = madvise(bytes_ + begin, end - begin, MADV_POPULATE_READ);
    } while (populated != 0 && errno == EINTR);
    if (populated != 0) {
      const int code = errno;
      // EFAULT: reading the page would raise SIGBUS.
      return unchanged() ? fail(error, FileCode::kSystem, code == EFAULT ? EIO : code)
                         : fail(error, FileCode::kChanged);
    }
  }
#else
  (void)begin;
  (void)end;
  (void)error;
#endif
  return true;
}

void MappedFile::wait_for_tick() const noexcept {
#ifdef CLOCK_REALTIME_COARSE
  // 20 ms are more than the slowest tick (HZ=100). A time stamp that is still ahead comes from
  // another machine's clock.
  for (int i = 0; i < 20; ++i) {
    timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec > modified_.tv_sec ||
        (now.tv_sec == modified_.tv_sec && now.tv_nsec > modified_.tv_nsec)) {
      return;
    }
    usleep(1000);
  }
#endif
}

bool MappedFile::copy(FileError* error) noexcept {
  wait_for_tick();
  void* memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return fail(error, FileCode::kSystem, errno);
  }
  prefer_huge_pages(memory, size_);
  bytes_ = static_cast<std::byte*>(memory);
  std::uint64_t read_bytes = 0;
  if (!read_at(0, size_, bytes_, &read_bytes, error)) {
    return false;
  }
  return (read_bytes == size_ && unchanged()) || fail(error, FileCode::kChanged);
}

bool MappedFile::begins_with(const void* bytes, std::uint64_t size,
                             FileError* error) const noexcept {
  const bool same = size <= size_ && (size == 0 || std::memcmp(bytes_, bytes, size) == 0);
  return same || fail(error, FileCode::kChanged);
}

bool MappedFile::read_all(FileError* error) noexcept { return acquire(size_, error); }

bool MappedFile::map_or_copy(FileError* error) noexcept { return acquire(1, error); }

bool MappedFile::acquire(std::uint64_t populated_bytes, FileError* error) noexcept {
  if (bytes_ != nullptr || size_ == 0) {
    return true;
  }
  if (take_lease() && map(populated_bytes)) {
    // Another process may have written between open() and the lease, or waited so long that the
    // kernel broke the lease.
    return unchanged() || fail(error, FileCode::kChanged);
  }
  return copy(error);
}

}  // namespace yolotf
