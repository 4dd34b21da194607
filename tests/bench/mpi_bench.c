// mpirun -np 2 mpi_bench: what ring_bench measures, by MPI, whose processes of one machine talk
// through shared memory. Prints the same JSON object.
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    kBatches = 200,
    kRoundTripsABatch = 500,
    kMessagesABatch = 20000,
    kWindow = 64,  // As MPI's own benchmarks keep under way.
    kLargeABatch = 16,
    kLargeWindow = 4,
    kLargeBatches = 60,
    kLargeBytes = 1 << 20,
};

static int by_value(const void* left, const void* right) {
    const double difference = *(const double*)left - *(const double*)right;
    return (difference > 0) - (difference < 0);
}

static double median(double* seconds, int count) {
    qsort(seconds, (size_t)count, sizeof *seconds, by_value);
    return seconds[count / 2];
}

static void tell_done(int rank) {
    char done = 0;
    if (rank == 0) {
        MPI_Recv(&done, 1, MPI_BYTE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
        MPI_Send(&done, 1, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
    }
}

static void stream_small(int rank, char* bytes) {
    MPI_Request requests[kWindow];
    for (int sent = 0; sent < kMessagesABatch; sent += kWindow) {
        const int now = kMessagesABatch - sent < kWindow ? kMessagesABatch - sent : kWindow;
        for (int i = 0; i < now; ++i) {
            if (rank == 0) {
                MPI_Isend(bytes, 8, MPI_BYTE, 1, 0, MPI_COMM_WORLD, &requests[i]);
            } else {
                MPI_Irecv(bytes, 8, MPI_BYTE, 0, 0, MPI_COMM_WORLD, &requests[i]);
            }
        }
        MPI_Waitall(now, requests, MPI_STATUSES_IGNORE);
    }
    tell_done(rank);
}

// With as many buffers as ring_bench's area has room for, so that both ends can work at once.
static void stream_large(int rank, char* bytes) {
    MPI_Request requests[kLargeWindow];
    for (int i = 0; i < kLargeWindow; ++i) requests[i] = MPI_REQUEST_NULL;
    for (int i = 0; i < kLargeABatch + kLargeWindow; ++i) {
        char* buffer = bytes + (size_t)(i % kLargeWindow) * kLargeBytes;
        MPI_Request* request = &requests[i % kLargeWindow];
        const int was_used = *request != MPI_REQUEST_NULL;
        MPI_Wait(request, MPI_STATUS_IGNORE);
        if (rank == 1 && was_used) {
            const int value = i - kLargeWindow;
            if (buffer[0] != value || memchr(buffer, 0xFF, kLargeBytes)) {
                MPI_Abort(MPI_COMM_WORLD, 1);
            }
        }
        if (i >= kLargeABatch) continue;
        if (rank == 0) {
            memset(buffer, i, kLargeBytes);
            MPI_Isend(buffer, kLargeBytes, MPI_BYTE, 1, 0, MPI_COMM_WORLD, request);
        } else {
            MPI_Irecv(buffer, kLargeBytes, MPI_BYTE, 0, 0, MPI_COMM_WORLD, request);
        }
    }
    tell_done(rank);
}

static void round_trip(int rank, uint64_t value) {
    if (rank == 0) MPI_Send(&value, sizeof value, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
    MPI_Recv(&value, sizeof value, MPI_BYTE, 1 - rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (rank == 1) MPI_Send(&value, sizeof value, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
}

int main(int argc, char** argv) {
    MPI_Init(&argc, &argv);
    int rank = 0;
    int ranks = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (ranks != 2) {
        fprintf(stderr, "mpi_bench: wants two processes: mpirun -np 2 mpi_bench\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    double seconds[kBatches];
    for (int batch = 0; batch < kBatches; ++batch) {
        const double begun = MPI_Wtime();
        for (uint64_t i = 0; i < kRoundTripsABatch; ++i) round_trip(rank, i);
        seconds[batch] = MPI_Wtime() - begun;
    }
    const double round_trips = median(seconds, kBatches);
    char* bytes = malloc((size_t)kLargeWindow * kLargeBytes);
    if (!bytes) MPI_Abort(MPI_COMM_WORLD, 1);
    memset(bytes, 7, (size_t)kLargeWindow * kLargeBytes);
    for (int batch = 0; batch < kBatches; ++batch) {
        const double begun = MPI_Wtime();
        stream_small(rank, bytes);
        seconds[batch] = MPI_Wtime() - begun;
    }
    const double messages = median(seconds, kBatches);
    for (int batch = 0; batch < kLargeBatches; ++batch) {
        const double begun = MPI_Wtime();
        stream_large(rank, bytes);
        seconds[batch] = MPI_Wtime() - begun;
    }
    const double large = median(seconds, kLargeBatches);
    if (rank == 0) {
        printf("{\"round_trip_ns\": %.1f, \"messages_us\": %.3f, \"large_gbs\": %.3f}\n",
               round_trips / kRoundTripsABatch * 1e9, kMessagesABatch / messages / 1e6,
               (double)kLargeABatch * kLargeBytes / large / 1e9);
    }
    free(bytes);
    MPI_Finalize();
    return 0;
}
