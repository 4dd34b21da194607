# Finding CRIU and the machine's abilities; apart from running it, so that the command line needs no protobuf.
add_library(ppdsm_criu_locate STATIC
  ${CMAKE_CURRENT_LIST_DIR}/abilities.cc
  ${CMAKE_CURRENT_LIST_DIR}/cgroup_probe.cc
  ${CMAKE_CURRENT_LIST_DIR}/locate_criu.cc
  ${CMAKE_CURRENT_LIST_DIR}/memory_probes.cc
  ${CMAKE_CURRENT_LIST_DIR}/namespace_probes.cc
  ${CMAKE_CURRENT_LIST_DIR}/probe_child.cc
  ${CMAKE_CURRENT_LIST_DIR}/tool_output.cc)
target_link_libraries(ppdsm_criu_locate PUBLIC ppdsm_base)
