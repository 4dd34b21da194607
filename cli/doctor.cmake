add_library(ppdsm_cli_doctor STATIC ${CMAKE_CURRENT_LIST_DIR}/doctor.cc)
target_link_libraries(ppdsm_cli_doctor
  PUBLIC ppdsm_criu_locate
  PRIVATE fmt::fmt nlohmann_json::nlohmann_json)
