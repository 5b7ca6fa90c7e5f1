# A thin front for CMake and the scripts: the work is done there.
BUILD ?= build

.PHONY: all clean
all:
	cmake -S . -B $(BUILD) -G Ninja $(CMAKEFLAGS) > /dev/null
	cmake --build $(BUILD)

clean:
	rm -rf $(BUILD) build-*
