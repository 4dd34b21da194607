ppdsm_unit_test(trust_test mesh/trust_test.cc LIBS ppdsm_mesh)
ppdsm_unit_test(gossip_codec_test mesh/gossip_codec_test.cc LIBS ppdsm_mesh)
ppdsm_unit_test(file_messages_test mesh/file_messages_test.cc LIBS ppdsm_mesh)
ppdsm_unit_test(odd_peer_test mesh/odd_peer_test.cc LIBS ppdsm_mesh spdlog::spdlog)
