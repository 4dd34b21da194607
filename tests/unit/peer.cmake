ppdsm_unit_test(peer_test peer/commit_log_test.cc peer/exposure_test.cc
  peer/home_test.cc peer/journals_test.cc peer/local_socket_test.cc LIBS ppdsm_peer
  nlohmann_json::nlohmann_json)
