ppdsm_unit_test(base_test base/files_test.cc base/peer_id_test.cc)
