ppdsm_unit_test(store_test
  store/blob_test.cc
  store/blocks_test.cc
  store/chunk_store_test.cc
  store/damage_test.cc
  store/disk_full_test.cc
  store/kill_test.cc
  LIBS ppdsm_store PkgConfig::XXHASH)
ppdsm_unit_test(manifest_test store/manifest_test.cc LIBS ppdsm_manifest PkgConfig::XXHASH)
