ppdsm_unit_test(replication_test
  peer/replication_chunk_pull_test.cc
  LIBS ppdsm_replication)
